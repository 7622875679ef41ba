"""Words on the command line that must be one of a few."""

from typing import TYPE_CHECKING

from karkas.policies.errors import UsageError

if TYPE_CHECKING:
    from karkas.storage import RunStatus


def run_status(text: str | None) -> "RunStatus | None":
    from karkas.storage import RunStatus

    if text is None:
        return None
    try:
        return RunStatus(text)
    except ValueError:
        raise UsageError(f"{text!r} is no status; there are {', '.join(RunStatus)}") from None
