"""Bytes to text: encodings, byte order marks and mojibake; each repair is told."""

import codecs
import re
from typing import NamedTuple

from karkas.policies.errors import SourceError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UNPRINTABLE = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]")
_NON_ASCII = re.compile(r"[^\x00-\x7f]+")
_MOST = 0.5
_UNREADABLE_SHARE = 0.05
_DETECTED_FROM = 200_000
_LONGEST_LINE = 20_000


class Decoded(NamedTuple):
    text: str
    encoding: str
    repairs: tuple[str, ...]


def decode(raw: bytes, *, charset: str | None = None, prose: bool = True) -> Decoded:
    """Text as it was meant; `SourceError` for what is no text.

    Only prose is searched for mojibake: code may quote it.
    """
    repairs: list[str] = []
    for bom, name in _BOMS:
        if raw.startswith(bom):
            repairs.append(f"byte order mark removed ({name})")
            raw, charset = raw[len(bom) :], name
            break
    else:
        if b"\0" in raw:
            raise SourceError("binary: it contains NUL bytes")
    text, encoding = _decoded(raw, charset)
    strange = len(_UNPRINTABLE.findall(text))
    if "\0" in text or strange > len(text) * _UNREADABLE_SHARE:
        raise SourceError("binary: most of it is not printable text")
    if prose:
        text, mended = mend(text)
        repairs.extend(mended)
    return Decoded(text, encoding, tuple(repairs))


def _decoded(raw: bytes, charset: str | None) -> tuple[str, str]:
    for name in dict.fromkeys(("utf-8", charset) if charset is None else (charset, "utf-8")):
        if name is None:
            continue
        try:
            return raw.decode(name), name.lower()
        except (UnicodeError, LookupError, ValueError):
            continue
    from charset_normalizer import from_bytes

    best = from_bytes(raw[:_DETECTED_FROM]).best()
    if best is None:
        raise SourceError("binary: no text encoding fits it")
    try:
        return raw.decode(best.encoding), best.encoding
    except UnicodeError:
        raise SourceError(
            f"its encoding is unclear: it begins as {best.encoding}, but does not go on so"
        ) from None


def mend(text: str) -> tuple[str, tuple[str, ...]]:
    """Text without mojibake, line by line, and what was done. The number of lines does not change."""
    if text.isascii():
        return text, ()
    lines = text.split("\n")
    foreign = [number for number, line in enumerate(lines) if not line.isascii()]
    mended, repairs = _from_mac_roman(lines, foreign), []
    if mended:
        repairs.append(f"mac-roman-mojibake: {len(mended)} of {len(foreign)} lines")
        lines = [mended.get(number, line) for number, line in enumerate(lines)]
    usual = _usual(lines, foreign)
    if usual:
        repairs.append(f"mojibake: {len(usual)} of {len(foreign)} lines")
        lines = [usual.get(number, line) for number, line in enumerate(lines)]
    return ("\n".join(lines), tuple(repairs)) if repairs else (text, ())


def _from_mac_roman(lines: list[str], foreign: list[int]) -> dict[int, str]:
    """UTF-8 that was read as Mac Roman. `0–∞` can be either, so most of the document has to agree."""
    mended: dict[int, str] = {}
    before = after = 0
    for number in foreign:
        line = lines[number]
        better = _NON_ASCII.sub(lambda run: _reread(run.group()), line)
        before += sum(len(run) for run in _NON_ASCII.findall(line))
        if better != line:
            after += sum(len(run) for run in _NON_ASCII.findall(line) if _reread(run) != run)
            mended[number] = better
    return mended if after > before * _MOST else {}


def _reread(run: str) -> str:
    try:
        return run.encode("mac_roman").decode("utf-8")
    except UnicodeError:
        return run


def _usual(lines: list[str], foreign: list[int]) -> dict[int, str]:
    from ftfy import TextFixerConfig, fix_encoding
    from ftfy.badness import is_bad

    careful = TextFixerConfig(replace_lossy_sequences=False, fix_c1_controls=False, unescape_html=False)
    mended = {}
    for number in foreign:
        if len(lines[number]) <= _LONGEST_LINE and is_bad(lines[number]):
            better = fix_encoding(lines[number], careful)
            if better != lines[number] and "\n" not in better:
                mended[number] = better
    return mended
