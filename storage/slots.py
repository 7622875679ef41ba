"""Slots: how many calls all processes have in flight at a model server. Locks, so that a crash leaves none taken."""

from hashlib import sha256

from karkas.storage.locks import Lock, Locks
from karkas.storage.sessions import now_s

STALE_S = 2.0
"""Who waits asks many times a second. So where slots stay free so long, whoever goes first is not asking."""


class Slots:
    def __init__(self, locks: Locks) -> None:
        self._locks = locks

    def __call__(self, address: str, limit: int) -> "Turnstile":
        return Turnstile(self._locks, address, limit)


class Turnstile:
    """See `karkas.server.slots`.

    Nobody who comes passes those who wait already: then all of them ask now and then, and chance is fair to them. That
    somebody waits, or a person does, is a lock that the waiting share.
    """

    def __init__(self, locks: Locks, address: str, limit: int) -> None:
        place = f"slots/{sha256(address.encode()).hexdigest()[:16]}"
        self._locks = locks
        self._slots = [f"{place}/{number}" for number in range(limit)]
        self._somebody, self._person = f"{place}/somebody", f"{place}/person"
        self._marks: dict[str, Lock] = {}
        self._idle_since: float | None = None

    def take(self, *, first: bool) -> Lock | None:
        if not first:
            self._unmark(self._person)
        unless = self._person if not first else None
        if not self._marked(self._somebody):
            unless = self._somebody
        taken = self._locks.take_one(self._slots, unless=unless)
        if taken is None and unless == self._person:
            taken = self._past_the_absent()
        if taken is None:
            self._mark(self._somebody)
            if first:
                self._mark(self._person)
        else:
            self._unmark(self._person)
        return taken

    def leave(self) -> None:
        for name in list(self._marks):
            self._unmark(name)

    def _past_the_absent(self) -> Lock | None:
        """A slot that stays free because whoever goes first was stopped, or hangs."""
        if not self._locks.free_of(self._slots):
            self._idle_since = None
            return None
        self._idle_since = self._idle_since or now_s()
        return self._locks.take_one(self._slots) if now_s() - self._idle_since > STALE_S else None

    def _marked(self, name: str) -> bool:
        return name in self._marks and self._marks[name].held

    def _mark(self, name: str) -> None:
        if not self._marked(name) and (mark := self._locks.take(name, shared=True)) is not None:
            self._marks[name] = mark

    def _unmark(self, name: str) -> None:
        if name in self._marks:
            self._marks.pop(name).free()
