"""What a sentence is about, and the scope in which it holds."""

import re

from karkas.policies.distillates import SourceRank
from karkas.server.documents import BlockKind, Document
from karkas.server.offline.cues import pattern, tagline
from karkas.server.offline.docstrings import argument
from karkas.server.offline.parameters import identifiers
from karkas.server.offline.sentences import Passage, cells
from karkas.server.offline.words import STOPWORDS

_MARKS = re.compile(
    r"\[([^\]]*)\]\([^)]*\)|[`*]{1,3}|(?<![\w_])_(?=[^_\s])|(?<=[^_\s])_(?![\w_])|<[^>]*>|\{#[^}]*\}|[^\w\s()/+.,:&'«»\"=@#%—–‐‑-]"
)
_ROLE = re.compile(r":[a-z]+:(?=`)")
_HOMES = ("package", "framework")
_LITERALS = frozenset({"true", "false", "none"})
_OPENING = 0.2
"""Share of a document in which a phrase without a verb may say what the project is."""
_HEADING_WORDS = 6
_SCOPE = 60
_CLASS = re.compile(
    r"\b(?:[A-Z][a-z0-9]+){2,}\b|\b[A-Z][A-Za-z0-9]*(?:Config|Model|Trainer|Error|Client|Transport)\b"
)
_CODED = re.compile(
    r"(`[^`]+`)\s+(?:parameter|option|argument|flag|setting|key|field|keyword|method|function|class|config\w*)\b"
)
_SIGNATURE_NAME = re.compile(r"^\s*(?:@.*\n\s*)*(?:async\s+)?(?:def|class)?\s*(?P<name>[A-Za-z_]\w*)")
_NO_TERM = STOPWORDS | {
    "note",
    "tip",
    "example",
    "warning",
    "default",
    "first",
    "use",
    "set",
    "users",
    "user",
    "people",
    "everything",
    "nothing",
    "code",
    "example,",
    "args",
    "returns",
    "parameters",
    "type",
    "value",
}

_DTYPE = re.compile(
    r"\b(bfloat16|float16|float32|float64|bf16|fp16|fp32|fp8|nvfp4|mxfp4|nf4|fp4|int8|int4|[48]-?bit)\b",
    re.IGNORECASE,
)
_VERSION = re.compile(
    r"(?:\bv(?=\d)|\b(?:version|versions|since|from|until|before|after|>=|<=|==|<|>)\s*v?)(\d+\.\d+(?:\.\d+)*)",
    re.IGNORECASE,
)
_NUMBERING = re.compile(r"^\s*(?:\d{1,2}(?:\.\d{1,2})*[.)]|[IVX]{1,4}[.)])\s+")
_LONGEST = 48


def clean(words: str) -> str:
    """Words without Markdown, emoji and numbering, on one line."""
    words = _ROLE.sub("", words)
    bare = re.sub(r"\s+", " ", _MARKS.sub(lambda match: match.group(1) or "", words))
    return _NUMBERING.sub("", bare).strip(" .,:;#-—–\"'")


def cut(words: str, longest: int = _LONGEST) -> str:
    """At most `longest` code points, ended at a word and outside of brackets."""
    if len(words) <= longest:
        return words
    short = words[: longest + 1].rsplit(" ", 1)[0][:longest]
    if short.count("(") > short.count(")"):
        short = short.rsplit("(", 1)[0] or short
    return short.rstrip(" ,;:-—–(")


def topic(headings: tuple[str, ...], title: str) -> str:
    """The innermost heading that names something, else the document's title."""
    for heading in (*reversed(headings), title):
        whole = clean(heading)
        words = re.split(r"(?<=\w{3}):\s|(?<=\w{3})\s[—–-]\s", whole, maxsplit=1)[0]
        if (
            words
            and not pattern("generic_heading").match(words)
            and len(words) <= _LONGEST
            and len(words.split()) <= _HEADING_WORDS
        ):
            return words
    return cut(clean(title))


def _title(document: Document) -> str:
    """What the document is called; a package's README by the package where its heading says nothing."""
    home = document.meta.get("package", "")
    return home if home and pattern("generic_heading").match(clean(document.title)) else document.title


def subject_of(passage: Passage, document: Document) -> str:
    """The parameter, class, or thing that the passage is about."""
    match passage.kind:
        case BlockKind.SIGNATURE:
            return _of_signature(passage, _title(document))
        case BlockKind.ROW:
            return cut(clean(cells(passage.text)[0])) or topic(passage.headings, _title(document))
        case BlockKind.DOCSTRING if passage.headings:
            owner = [name for name in passage.headings[1:] if name != "__init__"]
            return argument(passage) or ".".join(owner) or passage.headings[0]
        case _:
            return _of_prose(passage, document)


def _of_signature(passage: Passage, title: str) -> str:
    match = _SIGNATURE_NAME.match(passage.quote)
    owner = ".".join(passage.headings[1:])
    name = match["name"] if match else owner or title
    own = owner and name in {"__init__", owner.rsplit(".", 1)[-1]}
    return owner if own else f"{owner}.{name}".strip(".")


def _of_prose(passage: Passage, document: Document) -> str:
    label = pattern("label").match(passage.text)
    if label and (passage.kind is BlockKind.ITEM or "`" in label["term"]):
        labelled = clean(label["term"])
        if labelled and labelled.lower() not in _NO_TERM:
            return cut(labelled)
    introduces = document.rank in {SourceRank.README, SourceRank.PACKAGE_DOCS}
    if introduces and passage.place < _OPENING and tagline().match(passage.text):
        return next(
            (document.meta[name] for name in _HOMES if name in document.meta), topic((), _title(document))
        )
    names = [
        name
        for name in identifiers(passage.text)
        if len(name) > 1 and name.lower() not in _LITERALS and name[:2] != "__"
    ]
    return _defined_term(passage) or (cut(names[0]) if names else topic(passage.headings, _title(document)))


def _defined_term(passage: Passage) -> str:
    """The grammatical subject where it is a name: has a capital, a code mark or a hyphen, and no function words."""
    defined = pattern("defined_term").match(passage.text)
    if defined is None or passage.anaphoric:
        return ""
    coded = _CODED.match(defined["term"])
    if coded:
        return cut(clean(coded[1]))
    term = clean(defined["term"])
    named = re.search(
        r"[A-ZА-Я_`-]", defined["term"].removeprefix("The ").removeprefix("A ").removeprefix("An ")
    )
    if (
        len(term) > _LONGEST
        or term.split(" ", 1)[0].lower() in _NO_TERM
        or pattern("no_name").search(term)
        or not named
    ):
        return ""
    return _without_article(term)


def _without_article(term: str) -> str:
    return re.sub(r"^(?:an?|the)\s+", "", term, flags=re.IGNORECASE)


def scope_of(passage: Passage, document: Document) -> dict[str, str]:
    """Keys that limit where it holds: the document's (framework, package, ...), its page, what the words say."""
    scope = {key: value for key, value in document.meta.items() if value and len(value) <= _SCOPE}
    page = clean(document.title)[:_SCOPE]
    if page:
        scope["page"] = page
    section = next((clean(heading) for heading in reversed(passage.headings) if clean(heading) != page), "")
    if section:
        scope["section"] = section[:_SCOPE]
    if passage.lead and passage.kind is BlockKind.ITEM:
        scope["under"] = clean(passage.lead)
    if passage.columns:
        scope["columns"] = " | ".join(clean(column) for column in passage.columns)[:120]
    if passage.kind in {BlockKind.SIGNATURE, BlockKind.DOCSTRING}:
        classes = [name for name in passage.headings[1:2] if name[:1].isupper()]
    else:
        classes = _CLASS.findall(passage.text) or _CLASS.findall(" ".join(passage.headings))
    if classes:
        scope["class"] = classes[0]
    dtypes = list(dict.fromkeys(match.lower().replace("-", "") for match in _DTYPE.findall(passage.text)))
    if dtypes:
        scope["dtype"] = ", ".join(dtypes[:3])
    versions = list(dict.fromkeys(_VERSION.findall(passage.text)))
    if versions:
        scope["stated version"] = ", ".join(versions[:3])
    condition = pattern("condition").search(passage.text)
    when = clean(condition["when"] or condition["late"])[:70] if condition else ""
    if " " in when:
        scope["when"] = when
    return scope


def key(subject: str) -> str:
    """A subject so that its spellings are equal."""
    short = re.search(r"\(([A-Z][\w-]{1,9})\)\s*$", subject)
    name = short.group(1) if short else re.sub(r"\(.*?\)", "", subject)
    return re.sub(r"[\W_]+", "", name.lower()).removesuffix("s")
