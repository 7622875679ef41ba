"""The suite: which checks there are, what each proves, and the report of having run them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from karkas.agents.tools import Example, Tool
from karkas.policies.zones import Zone
from karkas.workflows.failure import told

if TYPE_CHECKING:
    from karkas.workflows.runs import Graph

Subject: TypeAlias = "Tool | Graph"


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Found:
    """What one check came to; `why` says what to mend, or why it could not be checked."""

    status: Status
    why: str = ""
    applies: bool = True
    """Whether there was something to check: a read tool has nothing to take back."""


PASSED = Found(Status.PASSED)


def failed(why: str) -> Found:
    return Found(Status.FAILED, why)


def unchecked(because: str) -> Found:
    return Found(Status.NOT_CHECKED, because)


def inapplicable(because: str) -> Found:
    return Found(Status.NOT_CHECKED, because, applies=False)


@dataclass(frozen=True)
class Setup:
    """What checking needs besides the subject: in what surroundings it is tried, and how far."""

    perform: bool = False
    """Whether effects may take place: tools are run, for real, where they have examples or a workflow proposes them."""
    input: Mapping[str, Any] | None = None
    """A workflow's input. Without one a workflow is not run at all."""
    answers: Mapping[str, str] = field(default_factory=dict)
    """A person's answers to a workflow's questions, by name; else the first choice, or "yes"."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files that must be in the project, by path; an example has its own besides."""
    examples: tuple[Example, ...] = ()
    """Examples for a tool that has none of its own."""
    tools: tuple[Tool, ...] = ()
    """Tools that a workflow proposes besides the built-in ones."""
    zones: tuple[Zone, ...] = ()
    config: str = ""
    """The text of a `karkas.toml`."""


@dataclass(frozen=True)
class Check:
    """One check by name. `proves` is a sentence; `performs` says that effects take place for it."""

    name: str
    proves: str
    run: Callable[[Any, Setup], Found]
    performs: bool = False

    def __call__(self, subject: Subject, setup: Setup) -> Found:
        if self.performs and not setup.perform:
            return unchecked("it takes effects, which were not asked for (`perform=True`, or `--perform`)")
        try:
            return self.run(subject, setup)
        except Exception as error:  # noqa: BLE001  the subject's code may raise anything, and the other checks go on
            return failed(f"it raised {told(error)}")


@dataclass(frozen=True)
class Checked:
    subject: str
    check: Check
    found: Found

    def __str__(self) -> str:
        why = f": {self.found.why}" if self.found.why else ""
        return f"{self.subject}, {self.check.name}: {self.found.status}{why}"


@dataclass(frozen=True)
class Report:
    """What every check came to."""

    checked: tuple[Checked, ...]

    def __iter__(self) -> Iterator[Checked]:
        return iter(self.checked)

    @property
    def failures(self) -> tuple[Checked, ...]:
        return tuple(one for one in self.checked if one.found.status is Status.FAILED)

    @property
    def holds(self) -> bool:
        """Whether nothing failed. What was not checked is no failure, and no proof either."""
        return not self.failures

    def __str__(self) -> str:
        return "\n".join(map(str, self.checked))


NOT_PROVED = (
    "what a tool does outside the workspace, beyond the files that Python itself opens: a program, a server, a device",
    "that an undo takes back anything but files of the workspace",
    "arguments, inputs and answers other than the ones that were tried",
    "that a preview is understood, or that its effect class is right where the effect cannot be seen",
    "that nothing but karkas writes into .karkas, .git, zones or karkas.toml, and that code in C opens no file untold",
    "anything about code on paths that the trial did not take",
)
"""What no run of the suite shows."""


def checks_of(subject: Subject) -> tuple[Check, ...]:
    """The checks that there are for a tool, or for a workflow."""
    from karkas.testing.tool_checks import TOOL_CHECKS
    from karkas.testing.workflow_checks import WORKFLOW_CHECKS

    return TOOL_CHECKS if isinstance(subject, Tool) else WORKFLOW_CHECKS


def check(subject: Subject, setup: Setup = Setup(), *, name: str = "") -> Report:
    """Runs every check on a tool or a workflow, each in a throw-away project of its own."""
    label = name or name_of(subject)
    return Report(tuple(Checked(label, one, one(subject, setup)) for one in checks_of(subject)))


def assert_conforms(subject: Subject, setup: Setup = Setup()) -> Report:
    """As `check`; an `AssertionError` names every check that failed and what to mend."""
    report = check(subject, setup)
    if not report.holds:
        raise AssertionError("\n".join(map(str, report.failures)))
    return report


def name_of(subject: Subject) -> str:
    return (
        f"tool {subject.name}"
        if isinstance(subject, Tool)
        else f"workflow {getattr(subject, 'name', '')}".strip()
    )


def joined(found: Iterable[Found]) -> Found:
    """Of the same check on several examples: a failure, else what could not be checked, else what passed."""
    results = sorted(found, key=_gravity)
    return results[0]


def _gravity(found: Found) -> int:
    if found.status is Status.NOT_CHECKED:
        return 1 if found.applies else 3
    return 0 if found.status is Status.FAILED else 2
