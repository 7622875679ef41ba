"""Mapping a zone: the distillate composed, verified and written, and the critic's pass over it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

from karkas.agents.critic import judge_map
from karkas.agents.distillate import dump, load, to_markdown, verify
from karkas.agents.summarizer import compose
from karkas.policies.actions import Digest
from karkas.policies.budgets import Bound, Spent, StopReason
from karkas.policies.distillates import (
    Claim,
    ClaimMode,
    Distillate,
    Honesty,
    RunInfo,
    SupportLabel,
    distillate_id,
)
from karkas.policies.errors import DistillateError, StorageError
from karkas.policies.gates import CriticReport, CriticStatus
from karkas.policies.zones import Stage
from karkas.server.questions import Reviewed
from karkas.storage import Store
from karkas.workflows.context import Context
from karkas.workflows.corpus import Corpus, documents_of, save
from karkas.workflows.fallback import or_offline
from karkas.workflows.gaps import drawn_by_rule, not_covered

FOLDER = "zones"
"""Folder of the zones' files in the project; agents' tools may not write there."""


@dataclass(frozen=True)
class Written:
    """The distillate's artifact, that of the map composed of it, whether it differs from the one on record, and what
    ended the exploration, composing included.
    """

    artifact: Digest
    composed: Digest
    changed: bool
    stop: StopReason


def distillate_path(root: Path, zone: str) -> Path:
    return root / FOLDER / f"{zone}.distillate.yaml"


async def write_map(
    context: Context,
    *,
    zone: str,
    corpus: Corpus,
    claims: Sequence[Claim],
    dropped: int,
    found: Reviewed,
    stop: Bound,
    partly_read: bool,
    spent: Spent,
) -> Written:
    """Composes, verifies and writes `zones/ZONE.distillate.yaml` and its Markdown; the stage becomes `mapped`.

    A distillate that says the same as the one on record leaves file, stage and frame as they are.
    """
    documents = await context.stored(documents_of, context, corpus)
    context.progress(f"summarizer composes {len(claims)} claims")
    reply, fallen = await or_offline(
        context,
        lambda engine: compose(
            engine,
            zone=zone,
            claims=claims,
            conflicts=found.conflicts,
            open_questions=found.open_questions,
            documents=documents,
        ),
        what="the summary and the map",
    )
    # The claims are the language model's all the same.
    engine = reply.engine if fallen is None else context.caller.engine or context.engine.info
    stop = context.caller.bound or stop
    gaps = not_covered(corpus, stop.reason, partly_read=partly_read)
    if engine.kind == "llm":
        gaps += drawn_by_rule(reply.value, why=fallen)
    run = await context.stored(context.store.runs.get, context.run)
    by_models = {name: getattr(run.spent, name) for name in ("tokens", "cached_tokens", "model_calls")}
    spent = spent.model_copy(update=by_models)
    content = {
        "sources": corpus.records,
        "claims": tuple(claims),
        "conflicts": found.conflicts,
        "weak_spots": found.weak_spots,
        "open_questions": found.open_questions,
        "summary": reply.value.summary,
        "not_covered": gaps,
    }
    distillate = Distillate(
        id=distillate_id(
            {name: [part.model_dump_json() for part in parts] for name, parts in content.items()}
        ),
        zone=zone,
        engine=engine,
        honesty=honesty(claims, dropped),
        run=RunInfo(
            id=context.run,
            resumed_from=context.run if run.segment > 1 else None,
            cycles=spent.cycles,
            stop_reason=stop.reason,
            stopped_by=stop.what or None,
            budget=run.budget.model_dump(),
            spent={**spent.model_dump(exclude={"wall_s"}), "wall_s": round(spent.wall_s, 1)},
        ),
        **content,
    )
    context.progress(f"verifying the spans of {len(claims)} claims")
    broken = await context.stored(verify, distillate, text_of(context.store))
    if broken:
        raise DistillateError(
            f"the distillate does not verify, so it was not written: {'; '.join(broken[:5])}"
        )
    ground = await context.stored(context.store.zones.ground, zone)
    path = distillate_path(context.root, zone)
    # A file without claims pins nothing, and says what was dropped this time.
    same = distillate.claims and ground.distillate_id == distillate.id
    if ground.distillate_artifact and same and path.exists():
        artifact, changed = ground.distillate_artifact, False
        distillate = load(await context.stored(context.store.artifacts.text, artifact))
    else:
        text = dump(distillate)
        artifact, changed = await context.stored(context.store.artifacts.put_text, text), True
        set_aside = await context.stored(write_file, path, text, ground.distillate_sha256)
        if set_aside is not None:
            context.progress(f"your edited distillate was kept as {set_aside.name}")
        page = await context.stored(to_markdown, distillate, text_of(context.store))
        await context.stored(write_file, path.with_name(f"{zone}.distillate.md"), page, None)
        await context.stored(
            context.store.zones.set_distillate,
            zone,
            id=distillate.id,
            sha256=artifact,
            artifact=artifact,
            path=path.relative_to(context.root).as_posix(),
            actor=str(engine),
        )
        await context.stored(context.store.zones.set_stage, zone, Stage.MAPPED, actor=str(engine))
    composed = await context.stored(save, context.store.artifacts, reply.value)
    return Written(artifact, composed, changed, stop.reason)


async def criticise_map(context: Context, *, zone: str, artifact: str) -> CriticReport:
    """Lets the critic judge the map; the stage becomes `criticised` only if it has. The gate shows the report."""
    distillate = load(await context.stored(context.store.artifacts.text, Digest(artifact)))
    report = await judge_map(
        context.engine, zone=zone, claims=distillate.claims, conflicts=distillate.conflicts, documents=()
    )
    await context.stored(
        context.store.note,
        "map_judged",
        f"zone:{zone}",
        actor=report.critic,
        data={"distillate": distillate.id, "status": report.status.value, "reason": report.reason},
    )
    judged = report.status in {CriticStatus.PASSED, CriticStatus.OBJECTED, CriticStatus.UNSURE}
    if judged and distillate.claims and context.zones()[zone].stage is Stage.MAPPED:
        await context.stored(context.store.zones.set_stage, zone, Stage.CRITICISED, actor=report.critic)
    return report


def honesty(claims: Sequence[Claim], dropped: int) -> Honesty:
    unsupported = sum(
        claim.support.label in {SupportLabel.UNCLEAR, SupportLabel.CONTRADICTED} for claim in claims
    )
    abstractive = any(claim.mode is ClaimMode.ABSTRACTIVE for claim in claims)
    return Honesty(abstractive=abstractive, unsupported_claims=unsupported, dropped_claims=dropped)


def text_of(store: Store) -> Callable[[str], str | None]:
    """Stored texts by hash, or None where there is none."""

    def text(artifact: str) -> str | None:
        try:
            return store.artifacts.text(Digest(artifact))
        except StorageError:
            return None

    return text


def write_file(path: Path, text: str, ours: str | None) -> Path | None:
    """Writes atomically. A file there that is not the one we wrote (`ours`, its hash) is set aside, and named.

    No link is followed: a command in the workspace could have planted one.
    """
    if path.parent.is_symlink():
        raise StorageError(
            f"{path.parent} is a symbolic link, so nothing was written; replace it by a folder"
        )
    path.parent.mkdir(exist_ok=True)
    data, aside = text.encode("utf-8", "surrogatepass"), None
    if path.exists() and ours is not None and path.read_bytes() != data:
        current = sha256(path.read_bytes()).hexdigest()
        if current != ours:
            aside = path.with_name(f"{path.stem}.edited-{current[:8]}{path.suffix}")
            path.replace(aside)
    scratch = path.with_name(f".{path.name}.{token_hex(8)}.tmp")
    try:
        with scratch.open("xb") as file:
            file.write(data)
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise StorageError(
            f"{path} could not be written: {error.strerror}; make room, then `karkas runs resume`"
        ) from error
    return aside
