"""The scripted engine: in place of a language model, it answers exactly what a test says, and refuses the rest."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel

from karkas.policies.distillates import EngineInfo
from karkas.policies.errors import AnswerError, BudgetReachedError, EngineRefusedError, UsageError
from karkas.server.protocol import AnswerT, Caller, Engine, Question, Reply, Request, Usage
from karkas.server.questions import QUESTIONS, Finding, JudgeAction, Judged, Propose, Proposed, ToolCall

QuestionT = TypeVar("QuestionT", bound=Question)
Said: TypeAlias = BaseModel | Callable[[Any], BaseModel]


class Script:
    """What the executor proposes and what the critic says. Every question that was asked stands in `asked`.

    What nothing was scripted for is refused, as the offline engine refuses what only a language model can do.
    """

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self._answers: dict[type[Question], list[Said]] = {}

    def answer(
        self, question: type[QuestionT], *answers: BaseModel | Callable[[QuestionT], BaseModel]
    ) -> None:
        """What such questions get, one after the other; the last one from then on. A function is given the question."""
        if not answers:
            raise UsageError(f"give at least one answer to {question.__name__}")
        self._answers[question] = list(answers)

    def propose(self, *calls: ToolCall | Iterable[ToolCall], why: str = "as scripted") -> None:
        """What the executor proposes, turn by turn: one call, or several as variants to choose from."""
        turns = [(one,) if isinstance(one, ToolCall) else tuple(one) for one in calls]
        self.answer(Propose, *(Proposed(calls=turn, why=why) for turn in turns))

    def judge(
        self,
        verdict: Literal["pass", "object", "unsure"],
        reason: str = "as scripted",
        *,
        findings: Iterable[str] = (),
    ) -> None:
        """What the critic says of every action from now on."""
        told = tuple(Finding(text=text) for text in findings)
        self.answer(JudgeAction, Judged(verdict=verdict, reason=reason, findings=told))

    def engine(self, caller: Caller | None = None) -> Engine:
        return ScriptedEngine(self, caller or Caller())

    def knows(self, question: type[Question]) -> bool:
        return question in self._answers

    def say(self, question: Question) -> BaseModel:
        self.asked.append(question)
        kind = type(question)
        if kind not in self._answers:
            raise EngineRefusedError(
                f"nothing is scripted for {kind.__name__}; say it by `script.answer(...)`"
            )
        left = self._answers[kind]
        said = left.pop(0) if len(left) > 1 else left[0]
        value: BaseModel = said if isinstance(said, BaseModel) else said(question)
        wanted = QUESTIONS[kind]
        if type(value) is not wanted:
            raise AnswerError(
                f"{kind.__name__} is answered by {wanted.__name__}, and the script said {type(value).__name__}"
            )
        return value


class ScriptedEngine:
    """One run's view of a script. It spends no tokens."""

    def __init__(self, script: Script, caller: Caller) -> None:
        self._script, self._caller = script, caller
        self.info = EngineInfo(kind="llm", name="scripted", version="1", model="none: the test's script")

    def answers(self, question: type[Question]) -> bool:
        return self._script.knows(question)

    async def ask(self, request: Request[AnswerT]) -> Reply[AnswerT]:
        if not await self._caller.before(self.info, request):
            raise BudgetReachedError
        value: Any = self._script.say(request.question)
        usage = Usage()
        await self._caller.after(usage)
        return Reply(value=value, engine=self.info, usage=usage)
