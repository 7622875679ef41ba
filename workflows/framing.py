"""Framing: the gate at which a person frames a zone, and taking the person's frame into force."""

from pathlib import Path

from karkas.agents.distillate import diff, load
from karkas.agents.frame import draft_text, load_frame
from karkas.policies.actions import Digest
from karkas.policies.distillates import Distillate
from karkas.policies.errors import FrameError, StorageError
from karkas.policies.frames import Frame, check_frame
from karkas.policies.gates import CriticReport, GateKind, GateStatus, PolicyDecision, PolicyVerdict
from karkas.policies.verdicts import Adopt
from karkas.policies.zones import ControlLevel, Stage
from karkas.storage import Gate, NewGate, RunId, RunStatus, Store
from karkas.workflows.context import Context
from karkas.workflows.corpus import load_composed
from karkas.workflows.mapping import FOLDER, write_file

WAITING = (GateStatus.OPEN, GateStatus.DEFERRED)


def frame_path(root: Path, zone: str) -> Path:
    return root / FOLDER / f"{zone}.frame.yaml"


async def open_frame_gate(
    context: Context, *, turn: int, zone: str, artifact: str, composed: str, judged: str | None, stop: str
) -> Gate | None:
    """Opens the gate at which the person frames the zone; an older one of the same zone is superseded.

    None where the zone is framed by just this distillate, where nothing was found, or where the run was stopped.
    """
    store = context.store
    distillate = load(await context.stored(store.artifacts.text, Digest(artifact)))
    state = context.zones()[zone]
    if not distillate.claims or stop == "stopped" or state.stage is Stage.FRAMED:
        return None
    report = await context.stored(store.artifacts.json, Digest(judged)) if judged else None
    gate = await context.stored(
        store.gates.open,
        NewGate(
            key=f"{context.run}:frame:{turn}:{artifact}",
            run=context.run,
            lane="frame",
            kind=GateKind.FRAME,
            zones=(zone,),
            level=state.level,
            level_why="; ".join(state.reasons),
            policy=PolicyDecision(
                verdict=PolicyVerdict.PROPOSE,
                reasons=("only a person frames a zone; until then nothing acts there",),
                approvers=state.approvers,
            ),
            title=f"frame zone {zone}",
            prompt=f"Read {FOLDER}/{zone}.distillate.md, then draw the zone's frame: `karkas frame {zone}`",
            detail={
                "distillate": distillate.id,
                "artifact": artifact,
                "composed": composed,
                "claims": len(distillate.claims),
                "conflicts": len(distillate.conflicts),
                "open_questions": len(distillate.open_questions),
            },
            critic=CriticReport.model_validate(report) if report is not None else None,
        ),
    )
    for older in await context.stored(store.gates.list, status=WAITING, zone=zone):
        if older.kind is GateKind.FRAME and older.id != gate.id:
            await context.stored(store.gates.supersede_by, older.id, gate.id)
            await context.stored(_end_superseded, store, older.run, by=gate.run)
    return gate


def _end_superseded(store: Store, run: RunId, *, by: RunId) -> None:
    """An exploration that waited for nothing but a frame of the older map has nothing left to do."""
    found = store.runs.get(run)
    if run != by and found.workflow == "explore" and found.status is RunStatus.PARKED:
        store.runs.set_status(run, RunStatus.STOPPED, reason=f"its zone was explored again by {by}")


def frame_gate(store: Store, zone: str) -> Gate | None:
    """The gate that waits for this zone's frame, if one does."""
    waiting = [gate for gate in store.gates.list(status=WAITING, zone=zone) if gate.kind is GateKind.FRAME]
    return waiting[-1] if waiting else None


def starting_frame(store: Store, zone: str, *, author: str, level: ControlLevel) -> str:
    """What the person's editor opens with: the frame in force, or else one drafted from the exploration's map.

    A frame whose distillate changed comes pinned to the new one, with what changed on top. The second of two people
    gets the frame that the first one adopted.
    """
    waiting = frame_gate(store, zone)
    if waiting is not None and waiting.approvals:
        return store.artifacts.text(Digest(str(waiting.approvals[0].verdict["frame"])))
    ground, (distillate, sha256) = store.zones.ground(zone), distillate_in_force(store, zone)
    if ground.frame_artifact is None:
        gates = [gate for gate in store.gates.list(zone=zone) if gate.detail.get("artifact") == sha256]
        areas = load_composed(store.artifacts, str(gates[-1].detail["composed"])).areas if gates else ()
        return draft_text(distillate, sha256, areas, author=author, level=level)
    text = store.artifacts.text(ground.frame_artifact)
    pinned = load_frame(text).distillate
    if not ground.frame_is_stale:
        return text
    changed = [f"# - {line}" for line in changes(store, pinned.sha256, distillate)]
    head = "\n".join(("# The distillate changed since you framed the zone:", *changed, "", ""))
    return head + text.replace(pinned.sha256, sha256).replace(pinned.id, distillate.id)


def check(store: Store, zone: str, text: str) -> Frame:
    """The frame in `text` if it can be accepted for the zone's distillate; else `FrameError` with every fault."""
    frame, (distillate, sha256) = load_frame(text), distillate_in_force(store, zone)
    faults = list(check_frame(frame, distillate, sha256))
    if frame.distillate.sha256 != sha256:
        faults += [
            f"changed since: {change}" for change in changes(store, frame.distillate.sha256, distillate)
        ]
    if frame.zone != zone:
        faults.insert(0, f"this is a frame of zone {frame.zone}, not of {zone}")
    if faults:
        raise FrameError("the frame cannot be accepted:\n" + "\n".join(f"- {fault}" for fault in faults))
    return frame


def accept(store: Store, zone: str, text: str, *, by: str) -> Gate | None:
    """Takes the person's frame: decides the waiting gate with it, or puts it in force where none waits.

    Returns the gate, whose run then goes on by itself; one that still waits needs another person. Raises `FrameError`
    where the frame has a fault.
    """
    frame = check(store, zone, text)
    artifact = store.artifacts.put_text(text)
    gate = frame_gate(store, zone)
    if gate is None:
        store.zones.set_frame(
            zone,
            frame=artifact,
            level=frame.level,
            author=by,
            distillate_sha256=Digest(frame.distillate.sha256),
        )
        return None
    decided = store.gates.decide(gate.id, Adopt(frame=artifact), by=by)
    if decided.status is GateStatus.PASSED:
        apply_frame(store, decided)
    return decided


def apply_frame(store: Store, gate: Gate) -> bool:
    """Puts the frame that a passed gate adopted in force, and says whether it is; doing so twice changes nothing,
    nor does doing so after the person has changed the zone again.
    """
    if (
        gate.status is not GateStatus.PASSED
        or not isinstance(gate.verdict, Adopt)
        or gate.verdict.frame is None
        or gate.decided_by is None
    ):
        return False
    zone = gate.zones[0]
    frame = load_frame(store.artifacts.text(gate.verdict.frame))
    store.zones.set_frame(
        zone,
        frame=gate.verdict.frame,
        level=frame.level,
        author=gate.decided_by,
        distillate_sha256=Digest(frame.distillate.sha256),
        gate=gate.id,
    )
    return store.zones.ground(zone).frame_artifact == gate.verdict.frame


def write_frame(root: Path, zone: str, text: str) -> Path:
    """Keeps the accepted frame beside the zone's distillate, for its owner to read and change."""
    path = frame_path(root, zone)
    write_file(path, text, None)
    return path


def distillate_in_force(store: Store, zone: str) -> tuple[Distillate, Digest]:
    """The zone's distillate on record, and the hash that a frame pins."""
    ground = store.zones.ground(zone)
    if ground.distillate_artifact is None or ground.distillate_sha256 is None:
        raise FrameError(
            f"zone {zone} has no distillate to frame; `karkas explore {zone} --source ...` writes one"
        )
    return load(store.artifacts.text(ground.distillate_artifact)), ground.distillate_sha256


def changes(store: Store, pinned: str, distillate: Distillate) -> list[str]:
    """What changed between the distillate that a frame pins and the one in force, in words."""
    try:
        before = load(store.artifacts.text(Digest(pinned)))
    except StorageError:
        return ["the distillate that it was drawn from is not stored here any more"]
    return diff(before, distillate)
