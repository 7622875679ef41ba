"""What a sentence is about, and the scope in which it holds."""

import re

from karkas.server.offline.cues import tagline
from karkas.server.offline.parameters import identifiers
from karkas.server.offline.sentences import Passage, cells
from karkas.server.offline.words import STOPWORDS
from karkas.server.protocol import BlockKind, Document

_GENERIC = re.compile(
    r"""^(?:\W|\d)*(?:overview|introduction|usage|example[s]?|basic\s.*|notes?|api|api reference|faqs?|installation|install|quick ?start|quick\s?tour|getting started|requirements?|prerequisites
    |caveats?|limitations?|configuration|config|settings?|options?|parameters?|arguments?|args|returns?|raises|summary|conclusion|background|motivation|details?|implementation(?:\sdetails)?|more\s.*|resources
    |references?|see also|troubleshooting|tips?(?:\s.*)?|best practices|general|misc|other.*|table of contents|features?|major changes|the important parts|next steps|what.s next|future work|benchmark.*
    |description|extended version|short version|models?|important.*|setting\s.*|using\s.*|the\s.*|readme|index|docs?|documentation|guides?|tutorial|changelog|change ?log|license|initiali[sz]ation|advanced.*|common.*|how (?:it|this) works|key.*|steps?|user|assistant|main|default|why.*|when to.*|how to.*|what is.*|optional.*|required.*|new.*|version.*|v?\d[\d.]*.*|\[.*\]
    |обзор|введение|пример\w*|использование|установка|вывод\w*|итог\w*|заключение|рекомендации|примечани\w*|общее|дополнительно|.*\?)\W*$""",
    re.IGNORECASE | re.VERBOSE,
)
_MARKS = re.compile(
    r"\[([^\]]*)\]\([^)]*\)|[`*]{1,3}|(?<![\w_])_(?=[^_\s])|(?<=[^_\s])_(?![\w_])|<[^>]*>|\{#[^}]*\}|[^\w\s()/+.,:&'«»\"=@#%—–-]"
)
_DEFINED = re.compile(
    r"^\W*(?:(?:an?|the)\s+)?(?P<term>(?:[\w`*+./-]+\s+){0,5}?[\w`*+./-]+(?:\s*\([^)]{1,40}\))?)\s*,?\s+(?:is|are|refers? to|stands? for|means|denotes|represents?|provides?|allows?|enables?|lets?|works?|supports?|implements?|uses?|requires?|can|cannot|does|do|has|have|will|may|must|should|—|–|это|является|называется|представляет|означает|позволяет)\b",
    re.IGNORECASE,
)  # fmt: skip
_LABEL = re.compile(
    r"^\W*(?P<term>`[^`\n]{1,60}`|\*\*[^*\n]{1,60}\*\*|[A-Za-zА-Яа-яЁё][\w./+-]*(?:\s[\w./+-]+){0,3})[*`]*\s*(?:\([^)]{0,40}\))?\s*(?::|—|–|\s-\s)"
)
_HOMES = ("package", "framework")
_LITERALS = frozenset({"true", "false", "none"})
_OPENING = 0.2
"""Share of a document in which a phrase without a verb may say what the project is."""
_HEADING_WORDS = 6
_CLASS = re.compile(
    r"\b(?:[A-Z][a-z0-9]+){2,}\b|\b[A-Z][A-Za-z0-9]*(?:Config|Model|Trainer|Error|Client|Transport)\b"
)
_PARAMETER = re.compile(r"(?::param\s+(?:\w+\s+)?)?\*{0,2}`{0,2}([a-z_]\w*)`{0,2}\s*(?:\([^)\n]*\))?\s*:\s")
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
_CONDITION = re.compile(
    r"^\W*(?:when|if|for|with|on|under|при|если|для)\s+(?P<when>[^,.;:]{4,70}),|\b(?:when|if|при|если)\s+(?P<late>(?!you\b|it\b|this\b|we\b|they\b|the user\b)[^,.;:()]{4,70}?)(?:[,.;)]|$)",
    re.IGNORECASE,
)
_NO_NAME = re.compile(
    r"\b(?:of|with|for|in|on|at|to|that|which|like|only|also|and|or|typically|usually|often|currently|from|by|as|than|into|using|via|when|if|\w+ly|\w+ing|unique|aspect|trade-?off|way|thing|it|this|that|we|you|they|one|all|most|some|for|с|для|и|или|в|на|что|как|не)\b|^\w$|[:=]",
    re.IGNORECASE,
)
_LONGEST = 48


def clean(words: str) -> str:
    """Words without Markdown and emoji, on one line."""
    return re.sub(r"\s+", " ", _MARKS.sub(lambda match: match.group(1) or "", words)).strip(" .,:;#-—–\"'")


def cut(words: str, longest: int = _LONGEST) -> str:
    """At most `longest` code points, ended at a word."""
    if len(words) <= longest:
        return words
    return words[: longest + 1].rsplit(" ", 1)[0].rstrip(" ,;:-—–(")[:longest]


def topic(headings: tuple[str, ...], title: str) -> str:
    """The innermost heading that names something, else the document's title."""
    for heading in (*reversed(headings), title):
        whole = clean(heading)
        words = re.split(r"(?<=\w{3}):\s|(?<=\w{3})\s[—–-]\s", whole, maxsplit=1)[0]
        if (
            words
            and not _GENERIC.match(words)
            and len(words) <= _LONGEST
            and len(words.split()) <= _HEADING_WORDS
        ):
            return words
    return cut(clean(title))


def subject_of(passage: Passage, document: Document) -> str:
    """The parameter, class, or thing that the passage is about."""
    title = document.title
    if passage.kind is BlockKind.SIGNATURE:
        match = _SIGNATURE_NAME.match(passage.text)
        owner = ".".join(passage.headings[1:])
        name = match["name"] if match else owner or title
        return (
            owner
            if owner and (name == "__init__" or name == owner.rsplit(".", 1)[-1])
            else f"{owner}.{name}".strip(".")
        )
    if passage.kind is BlockKind.ROW:
        cell = clean(cells(passage.text)[0])
        return cut(cell) or topic(passage.headings, title)
    label = _LABEL.match(passage.text)
    labelled = (
        clean(label["term"]) if label and (passage.kind is BlockKind.ITEM or "`" in label["term"]) else ""
    )
    if labelled and labelled.lower() not in _NO_TERM:
        return cut(labelled)
    if passage.kind is BlockKind.DOCSTRING and passage.headings:
        parameter = _PARAMETER.match(passage.text)
        return parameter[1] if parameter else ".".join(passage.headings[1:]) or passage.headings[0]
    if passage.place < _OPENING and tagline().match(passage.text):
        return next((document.meta[name] for name in _HOMES if name in document.meta), topic((), title))
    term = _defined_term(passage)
    if term:
        return term
    names = [name for name in identifiers(passage.text) if len(name) > 1 and name.lower() not in _LITERALS]
    return cut(names[0]) if names else topic(passage.headings, title)


def _defined_term(passage: Passage) -> str:
    """The grammatical subject where it is a name: has a capital, a code mark or a hyphen, and no function words."""
    defined = _DEFINED.match(passage.text)
    if defined is None or passage.anaphoric:
        return ""
    term = clean(defined["term"])
    named = re.search(
        r"[A-ZА-Я_`-]", defined["term"].removeprefix("The ").removeprefix("A ").removeprefix("An ")
    )
    if (
        len(term) > _LONGEST
        or term.split(" ", 1)[0].lower() in _NO_TERM
        or _NO_NAME.search(term)
        or not named
    ):
        return ""
    return _without_article(term)


def _without_article(term: str) -> str:
    return re.sub(r"^(?:an?|the)\s+", "", term, flags=re.IGNORECASE)


def scope_of(passage: Passage, document: Document) -> dict[str, str]:
    """Keys that limit where it holds: the document's own (framework, package, ...), its page, and what the words say."""
    scope = {key: value for key, value in document.meta.items() if value and len(value) <= 60}
    page = clean(document.title)[:60]
    if page:
        scope["page"] = page
    section = next((clean(heading) for heading in reversed(passage.headings) if clean(heading) != page), "")
    if section:
        scope["section"] = section[:60]
    if passage.columns:
        scope["columns"] = " | ".join(clean(column) for column in passage.columns)[:120]
    classes = _CLASS.findall(passage.text) or [
        name for heading in passage.headings for name in _CLASS.findall(heading)
    ]
    if classes:
        scope["class"] = classes[0]
    dtypes = list(dict.fromkeys(match.lower().replace("-", "") for match in _DTYPE.findall(passage.text)))
    if dtypes:
        scope["dtype"] = ", ".join(dtypes[:3])
    versions = list(dict.fromkeys(_VERSION.findall(passage.text)))
    if versions:
        scope["stated version"] = ", ".join(versions[:3])
    condition = _CONDITION.search(passage.text)
    if condition:
        scope["when"] = clean(condition["when"] or condition["late"])[:70]
    return scope


def key(subject: str) -> str:
    """A subject so that its spellings are equal."""
    short = re.search(r"\(([A-Z][\w-]{1,9})\)\s*$", subject)
    name = short.group(1) if short else re.sub(r"\(.*?\)", "", subject)
    return re.sub(r"[\W_]+", "", name.lower()).removesuffix("s")
