"""Several callers' changes in one transaction: whoever is told that something is done can rely on it."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlmodel import col, select

from karkas.policies.errors import PermitError, StorageError
from karkas.policies.permits import PermitStatus
from karkas.policies.zones import Zone
from karkas.storage import Permit, Store
from karkas.storage.tables import PermitRow

Permitted = Callable[..., Permit]


class Held:
    """Keeps the desk busy, so that all that is asked meanwhile is one transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._free, self._busy = threading.Event(), threading.Event()

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._store.at_once(self._wait))
        await asyncio.to_thread(self._busy.wait)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.05)
        self._free.set()
        await self._task

    def _wait(self) -> None:
        self._busy.set()
        self._free.wait(10)


def status(store: Store, permit: Permit) -> PermitStatus:
    return store.ledger.get(permit.id).status


async def test_what_is_no_part_of_the_store_waits_for_nobody_at_the_desk(store: Store) -> None:
    """A function that writes a file, say, would be done twice, or while the database is locked for all."""
    threads = []

    def reads_a_file() -> None:
        threads.append(threading.current_thread().name)

    async with Held(store):
        await asyncio.wait_for(store.aside(reads_a_file), 5)
    assert not threads[0].startswith("karkas-store")


async def test_a_reader_whose_statement_failed_takes_no_claim_with_it_in_silence(
    store: Store, permitted: Permitted
) -> None:
    """PostgreSQL answers the commit of a transaction in which a statement failed by undoing it, and calls that done."""
    permit = permitted("a.md")

    def claim() -> None:
        store.ledger.start(store.ledger.claim(permit.id, worker="w"))

    def fails() -> None:
        with store.database.read() as session:
            session.connection().execute(text("SELECT nothing FROM nowhere"))

    async with Held(store):
        told = asyncio.gather(store.at_once(claim), store.at_once(fails), return_exceptions=True)
    claimed, failed = await told
    assert isinstance(failed, StorageError)
    assert claimed is None
    assert status(store, permit) is PermitStatus.STARTED
    assert store.audit.verify() == []


async def test_a_part_that_swallows_what_failed_in_it_is_told_nothing_that_does_not_stand(
    store: Store, permitted: Permitted
) -> None:
    permit = permitted("a.md")

    def twice() -> str:
        store.ledger.claim(permit.id, worker="w")
        try:
            store.ledger.claim(permit.id, worker="x")
        except PermitError:
            return "only once"
        return "twice"

    assert await store.at_once(twice) == "only once"
    assert status(store, permit) is PermitStatus.CLAIMED
    assert store.audit.verify() == []


async def test_a_claim_that_was_undone_with_its_group_is_made_once(
    store: Store, permitted: Permitted
) -> None:
    """What was remembered of the log while the group was at work is of a log that never was."""
    permits = [permitted(f"{number}.md") for number in range(3)]

    def claim(permit: Permit) -> Callable[[], None]:
        def claim() -> None:
            store.ledger.start(store.ledger.claim(permit.id, worker="w"))

        return claim

    def breaks() -> None:
        store.ledger.claim("p-000000000000", worker="w")

    async with Held(store):
        told = asyncio.gather(
            *(store.at_once(claim(permit)) for permit in permits),
            store.at_once(breaks),
            store.at_once(claim(permits[0])),
            return_exceptions=True,
        )
    first, second, third, broken, again = await told
    assert (first, second, third) == (None, None, None)
    assert isinstance(broken, Exception)
    assert isinstance(again, PermitError)
    assert [status(store, permit) for permit in permits] == [PermitStatus.STARTED] * 3
    claims = [one for one in store.audit.log() if one.event == "permit_claimed"]
    assert len(claims) == 3
    store.ledger.claim(permitted("later.md").id, worker="w")
    assert store.audit.verify() == []


async def test_a_commit_that_fails_is_told_to_all_and_leaves_nothing(
    store: Store, permitted: Permitted
) -> None:
    permits = [permitted("a.md"), permitted("b.md")]
    head = (store.folder / "audit.head").read_bytes()

    def lost() -> None:
        with store.database.write() as session:
            connection = session.connection()
            driver = connection.connection.driver_connection
            assert driver is not None
            if store.database.is_sqlite:
                driver.execute("ROLLBACK")  # as a full disk makes SQLite do
            else:
                driver.close()

    async with Held(store):
        told = asyncio.gather(
            *(store.aside(store.ledger.claim, permit.id, worker="w") for permit in permits),
            store.at_once(lost),
            return_exceptions=True,
        )
    assert all(isinstance(one, Exception) for one in await told)
    assert [status(store, permit) for permit in permits] == [PermitStatus.APPROVED] * 2
    assert (store.folder / "audit.head").read_bytes() == head
    for permit in permits:
        store.ledger.claim(permit.id, worker="w")
    assert store.audit.verify() == []


async def test_nothing_is_written_outside_of_a_transaction_that_a_reader_broke_off(
    store: Store, permitted: Permitted
) -> None:
    """Some faults of a disk make SQLite undo the transaction; each statement after that would stand by itself."""
    if not store.database.is_sqlite:
        pytest.skip("of SQLite")
    permits = [permitted("a.md"), permitted("b.md")]

    def breaks_off() -> None:
        with store.database.read() as session:
            driver = session.connection().connection.driver_connection
            assert driver is not None
            driver.execute("ROLLBACK")
            session.exec(select(col(PermitRow.id)).where(text("nothing = 1"))).all()

    async with Held(store):
        told = asyncio.gather(
            store.aside(store.ledger.claim, permits[0].id, worker="w"),
            store.at_once(breaks_off),
            store.aside(store.ledger.claim, permits[1].id, worker="w"),
            return_exceptions=True,
        )
    for permit, error in zip(permits, (await told)[::2], strict=True):
        taken = status(store, permit) is PermitStatus.CLAIMED
        assert taken is not isinstance(error, Exception)
    assert store.audit.verify() == []


async def test_what_nobody_waits_for_any_more_is_not_begun(store: Store, permitted: Permitted) -> None:
    permit = permitted("a.md")

    def begin() -> None:
        store.ledger.start(store.ledger.claim(permit.id, worker="w"))

    async with Held(store):
        task = asyncio.create_task(store.at_once(begin, lapses=True))
        await asyncio.sleep(0.05)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.aside(store.note, "looked", "something", actor="karkas")
    assert status(store, permit) is PermitStatus.APPROVED


async def test_what_one_call_changes_of_a_zone_the_next_one_of_its_transaction_judges_by(
    store: Store,
) -> None:
    """What a transaction remembers of zones must not outlive a change of one, whoever of the group made it."""
    store.zones.observe(Zone(name="lora", understanding=5))

    def judge() -> tuple[int | None, int]:
        store.note("looked", "zone:lora", actor="karkas")
        known = store.zones.get("lora")
        return known.understanding if known else None, store.zones.all()["lora"].understanding

    def tighten() -> None:
        store.zones.observe(Zone(name="lora", understanding=2))

    def tightens_and_fails() -> None:
        store.zones.observe(Zone(name="lora", understanding=1))
        raise ValueError

    async with Held(store):
        calls = (judge, tighten, judge, tightens_and_fails, judge)
        told = asyncio.gather(*(store.at_once(call) for call in calls), return_exceptions=True)
    first, _, second, failed, third = await told
    assert isinstance(failed, ValueError)
    assert (first, second, third) == ((5, 5), (2, 2), (1, 1))
    assert store.verify() == []
