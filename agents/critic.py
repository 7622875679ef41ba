"""The critic: judges an exact action or a map. Whatever goes wrong, the answer is never a pass."""

from collections.abc import Sequence

from karkas.agents.prompts import instructions
from karkas.policies.actions import Digest
from karkas.policies.distillates import Claim, Conflict
from karkas.policies.errors import EngineRefusedError
from karkas.policies.gates import CriticFinding, CriticReport, CriticStatus
from karkas.server.documents import Document
from karkas.server.protocol import Engine, Request, Role
from karkas.server.questions import JudgeAction, Judged, JudgeMap

STATUS = {"pass": CriticStatus.PASSED, "object": CriticStatus.OBJECTED, "unsure": CriticStatus.UNSURE}


async def judge_action(
    engine: Engine, *, zone: str, task: str, frame: str, shown: str, digests: tuple[Digest, ...]
) -> CriticReport:
    """Judges exactly the text `shown`; the report is bound to the digests of the actions in it."""
    question = JudgeAction(zone=zone, task=task, frame=frame, shown=shown)
    return await _ask(engine, question, (), digests)


async def judge_map(
    engine: Engine,
    *,
    zone: str,
    claims: Sequence[Claim],
    conflicts: Sequence[Conflict],
    documents: Sequence[Document],
) -> CriticReport:
    question = JudgeMap(zone=zone, claims=tuple(claims), conflicts=tuple(conflicts))
    return await _ask(engine, question, documents, ())


async def _ask(
    engine: Engine,
    question: JudgeAction | JudgeMap,
    documents: Sequence[Document],
    digests: tuple[Digest, ...],
) -> CriticReport:
    request = Request(
        role=Role.CRITIC,
        instructions=instructions(Role.CRITIC),
        documents=documents,
        question=question,
        answer=Judged,
    )
    try:
        reply = await engine.ask(request)
    except EngineRefusedError as refusal:
        critic = f"critic/{engine.info}"
        return CriticReport(critic=critic, status=CriticStatus.REFUSED, digests=digests, reason=str(refusal))
    except Exception as error:  # noqa: BLE001  whatever failed, the gate stays shut and says so
        critic, reason = f"critic/{engine.info}", f"the critic failed: {type(error).__name__}: {error}"
        return CriticReport(critic=critic, status=CriticStatus.ERROR, digests=digests, reason=reason)
    judged = reply.value
    return CriticReport(
        critic=f"critic/{reply.engine}",
        status=STATUS.get(judged.verdict, CriticStatus.ERROR),
        digests=digests,
        reason=judged.reason,
        findings=tuple(CriticFinding(text=finding.text, quote=finding.quote) for finding in judged.findings),
    )
