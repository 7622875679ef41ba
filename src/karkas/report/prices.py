"""What tokens cost, where `karkas.toml` says what a million of them do."""

from karkas.settings import Settings

MILLION = 1_000_000


def cost_of(settings: Settings, tokens: int) -> float | None:
    """None where no price is set."""
    price = settings.model.price_per_mtok
    return None if price is None else tokens * price / MILLION
