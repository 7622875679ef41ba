"""Mechanisms of a zone: its claims grouped as its authors grouped them, by page, or by section where pages are few."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from karkas.server.documents import Document
from karkas.server.offline.standing import Standing
from karkas.server.offline.subjects import clean, cut, key
from karkas.server.offline.words import terms

_PAGES_ENOUGH = 6
_READ = 6000
"""Code points of a page's beginning that say what it is about."""
_WEIGHING = 5


@dataclass
class Mechanism:
    """A group of claims, the best first, and what else tells what it is about."""

    title: str
    members: list[Standing] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    """Terms by which it is compared with others."""

    @property
    def weight(self) -> float:
        """By its best claims, and how much they are about the zone."""
        return sum(max(0.0, one.score + one.fit) for one in self.members[:_WEIGHING])

    @property
    def package(self) -> str:
        """The package that all of it comes from, or nothing."""
        found = {one.claim.scope.get("package", "") for one in self.members}
        return found.pop() if len(found) == 1 else ""


def mechanisms(known: Sequence[Standing], documents: Sequence[Document]) -> list[Mechanism]:
    """In the order in which the claims name them."""
    by_source = {document.source: document for document in documents}
    pages = Counter(key(one.page) for one in known)
    by_page = sum(count > 1 for count in pages.values()) >= _PAGES_ENOUGH
    groups: dict[str, Mechanism] = {}
    for one in known:
        section = one.claim.scope.get("section")
        title = one.page if by_page and one.page else section or one.page or one.claim.subject
        module = one.claim.scope.get("module", "")
        if module and title and key(title) == key(module):
            title = module.replace("._", ".").partition(".")[2].replace(".", " ") or module
        title = cut(re.split(r":\s", clean(title), maxsplit=1)[0]) or one.claim.subject
        groups.setdefault(
            f"{one.claim.scope.get('package', '')} {key(title)}", Mechanism(title)
        ).members.append(one)
    for group in groups.values():
        group.members.sort(key=lambda one: (-one.score, one.claim.id))
        sources = dict.fromkeys(one.claim.evidence[0].source for one in group.members)
        group.words = [
            *terms(group.title) * 3,
            *(term for one in group.members for term in terms(one.claim.text)),
        ]
        for source in sources if by_page else ():
            if source in by_source:
                group.words += terms(by_source[source].text[:_READ])
    return list(groups.values())
