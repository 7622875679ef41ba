"""karkas.testing: a throw-away project, and checks that your workflows and tools keep to the gates. docs/testing.md

Nothing here prints, and nothing leaves the temporary folder but what your own code does elsewhere.
"""

from typing import TYPE_CHECKING, Any

from karkas.agents.tools import Example
from karkas.testing.bench import Bench, Effected, throwaway
from karkas.testing.clock import Clock
from karkas.testing.script import Script
from karkas.testing.suite import (
    NOT_PROVED,
    Check,
    Checked,
    Found,
    Report,
    Setup,
    Status,
    assert_conforms,
    check,
)

if TYPE_CHECKING:
    from karkas.testing.fixtures import conformance as conformance
    from karkas.testing.fixtures import project as project

__all__ = [
    "NOT_PROVED",
    "Bench",
    "Check",
    "Checked",
    "Clock",
    "Effected",
    "Example",
    "Found",
    "Report",
    "Script",
    "Setup",
    "Status",
    "assert_conforms",
    "check",
    "conformance",
    "project",
    "throwaway",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # pytest is the user's, and only these two need it.
        if name not in {"conformance", "project"}:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from karkas.testing import fixtures

        return getattr(fixtures, name)
