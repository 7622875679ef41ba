"""Every error that karkas raises on purpose. The docstring is what the user reads when nothing better was said."""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from karkas.policies.budgets import Whose


class KarkasError(Exception):
    """karkas could not go on."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__ or "")


class UsageError(KarkasError):
    """The command or call was not understood; `karkas COMMAND --help` shows how it is used."""

    exit_code = 2


class NotFoundError(KarkasError):
    """There is nothing of that name; the matching `list` command shows what there is."""


class ProjectError(KarkasError):
    """There is no usable karkas project here; `karkas init` makes one."""


class SettingsError(ProjectError):
    """karkas.toml cannot be used; correct the line that is named."""


class StorageError(KarkasError):
    """The store cannot be used; `karkas doctor` says what is wrong."""


class AuditError(StorageError):
    """The audit log does not verify: a row was changed, dropped or reordered."""


class SourceError(KarkasError):
    """A source could not be read; it is listed in the distillate with the reason."""


class DistillateError(KarkasError):
    """The distillate does not verify; each break is named."""


class FrameError(KarkasError):
    """The frame cannot be accepted; correct what is named and frame the zone again."""


class WorkflowError(KarkasError):
    """The workflow cannot be built or run."""


class UngatedPathError(WorkflowError):
    """A path reaches an executor around a gate."""


class ToolError(KarkasError):
    """A tool could not do what was permitted; nothing was changed unless the message says so."""


class ConfinementError(ToolError):
    """The path leaves the workspace or enters a protected place; agents may not touch it."""


class InDoubtError(KarkasError):
    """Nobody knows whether the effect took place; a person looks, and it is never repeated by itself."""


class KernelError(KarkasError):
    """A safety rule stopped this."""


class PermitError(KernelError):
    """There is no permit for this action; it must pass a gate first."""


class StaleError(KernelError):
    """What was approved is not what would run now; the gate asks again."""


class LooseningError(KernelError):
    """Only a person loosens a zone: `karkas zone set NAME --level LEVEL --reason "..."`."""


class VerdictError(KernelError):
    """That decision is not possible at this gate."""


class EngineError(KarkasError):
    """The model side could not answer."""


class EngineRefusedError(EngineError):
    """The engine cannot do this honestly, so it does not do it."""


class ModelNeededError(EngineRefusedError):
    """Only a language model can do it; name a server under [model] in karkas.toml, then `karkas runs resume RUN`."""


class ModelUnavailableError(EngineError):
    """The model server does not answer; start it (`karkas serve`), then `karkas runs resume RUN`."""


class EngineChangedError(EngineError):
    """Another engine began this run; `karkas runs resume RUN --switch-engine` lets it go on with the new one."""


class BudgetReachedError(EngineError):
    """The run's budget or deadline allows no further call; begin it anew with more (`[budgets]` in karkas.toml)."""


class NightOverError(BudgetReachedError):
    """What a night, or a zone's day, may spend is spent, or the night has ended; the run goes on in the next one."""

    def __init__(self, message: str, whose: "Whose") -> None:
        super().__init__(message)
        self.whose = whose


class RequestRejectedError(EngineError):
    """The model server does not take this request, and would not take it a second time either."""


class ContextTooLongError(RequestRejectedError):
    """The prompt is longer than what the model holds."""


class AnswerError(EngineError):
    """The model's answer is of no use."""


class TruncatedAnswerError(AnswerError):
    """The model's answer did not end in the room that it had, also when it was asked again with more."""


class InvalidAnswerError(AnswerError):
    """The model's answer is not of the type that was asked for, also when it was asked again with the fault."""


class RefusedAnswerError(AnswerError):
    """The model refused to answer."""


class StoppedError(KarkasError):
    """Stopped by a budget or deadline; what was found so far is on disk."""

    exit_code = 4
