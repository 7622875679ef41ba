"""The client of a depot."""


def send(parcel: bytes, attempts: int = 5, wait_seconds: float = 2.0) -> bool:
    """Sends a parcel and returns whether the depot took it."""
    return bool(parcel) and attempts > 0 and wait_seconds >= 0
