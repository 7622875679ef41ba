"""Reading a preview as a unified diff, and what a file would be after it."""

import re
from dataclasses import dataclass

HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
NOWHERE = "/dev/null"


@dataclass(frozen=True)
class FileDiff:
    """What a unified diff says of one file: hunks as (first old line counted from 0, its lines with their marks)."""

    path: str
    makes: bool
    removes: bool
    hunks: tuple[tuple[int, tuple[str, ...]], ...]

    def applied(self, before: str) -> str | None:
        """The text afterwards, or None where `before` is not the text that the diff was made of."""
        old, new, at = split(before), [], 0
        for start, lines in self.hunks:
            new += old[at:start]
            at = start
            for line in lines:
                mark, text = line[0], line[1:]
                if mark in " -":
                    if at >= len(old) or old[at] != text:
                        return None
                    at += 1
                if mark in " +":
                    new.append(text)
        return "".join([*new, *old[at:]])


def split(text: str) -> list[str]:
    """Lines with their newlines; a last one may have none."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def file_diffs(shown: str) -> tuple[FileDiff, ...]:
    """Every file's part of the unified diff in a text; none where there is no such diff."""
    lines, found, at = shown.split("\n"), [], 0
    while at < len(lines) - 1:
        if lines[at].startswith("--- ") and lines[at + 1].startswith("+++ "):
            old, new = lines[at][4:], lines[at + 1][4:]
            hunks, at = _hunks(lines, at + 2)
            path = old if new == NOWHERE else new
            found.append(FileDiff(path, makes=old == NOWHERE, removes=new == NOWHERE, hunks=hunks))
        else:
            at += 1
    return tuple(found)


def _hunks(lines: list[str], at: int) -> tuple[tuple[tuple[int, tuple[str, ...]], ...], int]:
    found = []
    while at < len(lines):
        head = HUNK.match(lines[at])
        if head is None:
            if lines[at].startswith("("):  # a remark, such as that the file was empty
                at += 1
                continue
            break
        first, gone, come = int(head[1]), int(head[2] or 1), int(head[4] or 1)
        body: list[str] = []
        at += 1
        while at < len(lines) and (gone or come or lines[at].startswith("\\ ")):
            line = lines[at]
            if line.startswith("\\ "):
                body[-1] = body[-1].removesuffix("\n")
            elif line[:1] in {" ", "-", "+"}:
                body.append(f"{line}\n")
                gone -= line[0] in " -"
                come -= line[0] in " +"
            else:
                break
            at += 1
        # In a hunk without old lines the number is that of the line before it.
        found.append((first - 1 if head[2] != "0" else first, tuple(body)))
    return tuple(found), at
