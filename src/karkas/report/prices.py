"""What tokens cost, where `karkas.toml` says what a million of them do."""

from collections.abc import Iterable

from karkas.server.protocol import Role
from karkas.settings import Settings
from karkas.storage.happened import Asked

MILLION = 1_000_000


def cost_of(settings: Settings, asked: Iterable[Asked], *, else_tokens: int = 0) -> float | None:
    """What the answers cost, by the models that their roles ask now; where none is known of, `else_tokens` at the price
    of `[model]`. None where no price is set.
    """
    known = list(asked)
    prices = [price for price in (_price(settings, one.role) for one in known) if price is not None]
    usual = settings.model.price_per_mtok
    if not known:
        return None if usual is None else else_tokens * usual / MILLION
    if not prices:
        return None
    return sum((_price(settings, one.role) or 0.0) * one.tokens for one in known) / MILLION


def _price(settings: Settings, role: str) -> float | None:
    models = settings.language_models
    if models is None or role not in {one.value for one in Role}:
        return settings.model.price_per_mtok
    return models.models[models.name_for(Role(role))].price_per_mtok


def money(cost: float) -> str:
    """As much of a sum as says something: `12.34`, `0.0036`."""
    return f"{cost:,.2f}" if cost >= DIME or not cost else f"{cost:.2g}"


DIME = 0.1
