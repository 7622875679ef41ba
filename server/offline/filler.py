"""What a document says that is no knowledge of the zone: pointers, greetings, badges, advertising, fragments."""

import re

from karkas.policies.distillates import Facet
from karkas.server.offline.words import plain, tokens
from karkas.server.protocol import BlockKind

_POINTER = re.compile(
    r"""\b(?:see\s+(?:the|also|our|here|this|below|above|\[|`|https?)|check\s+(?:out|the\s+(?:full|docs)|our|\[)|(?:please\s+)?(?:refer|head|go)\s+(?:over\s+)?to|read\s+more|learn\s+more
    |for\s+(?:more|further|full|additional|a\s+(?:full|complete|detailed|more))\s+\w*\s*(?:info|detail|example|list|explan|guid|on|read)
    |more\s+(?:details|information|info)\b|take\s+a\s+look|have\s+a\s+look|look\s+at|explore\s+the|come\s+back|click|visit|documentation\s+index
    |(?:this|the\s+following|next)\s+(?:guide|tutorial|page|section|notebook|chapter|blog|post|article|document|doc|readme|table|diagram|figure|list|example|snippet|recipe|script|code)\b
    |(?:in|throughout)\s+this\s+(?:guide|section|tutorial|page|example|doc)
    |(?:shown|listed|described|detailed|provided|mentioned|given|discussed|available|outlined|explained|defined|introduced|seen)\s+(?:below|above|here|in\s+the\s+(?:following|screenshot|previous|next|table|section)|in\s+\[|at\s+\[)
    |as\s+follows|the\s+following|(?:example|section|table|code|snippet|command|figure|plot|screenshot|script|config\w*|list|run)s?\s+(?:above|below)|(?:above|below)\s+(?:example|section|table|code|snippet|command|figure|script|config)
    |screenshot|our\s+(?:blog|docs|documentation|guide|tutorial|paper|notebook|discord|website|example|collection)|blog\s+post
    |is\s+available\s+(?:here|at|on)|can\s+be\s+found\s+(?:here|in|at|on)|are\s+(?:listed|available)\s+(?:here|in|at)|found\s+(?:here|in\s+the))\b
    |\[(?:here|this|link|below|docs?)\]|\bсм\.\s|смотри(?:те)?\s|подробнее|читайте|ниже\s+привед|следующ(?:ий|ая|ие|ем)\s+(?:раздел|пример|таблиц)""",
    re.IGNORECASE | re.VERBOSE,
)
_CHATTER = re.compile(
    r"""\b(?:welcome|contribut(?:e|or|ors|ions?|ing)|feel\s+free|pull\s+requests?|let\s+us\s+know|discord|slack|newsletter|twitter|star\s+us|stay\s+tuned|thank(?:s|\s+you)|acknowledg\w+
    |please\s+(?:open|create|raise|file|report|cite|note\s+that\s+this\s+is\s+a)|open\s+an?\s+(?:issue|pr)|raise\s+an\s+issue|congratulations|let['’]s|let\s+us|dive\s+(?:a\s+little|into|in)|now\s+(?:you|that|we|let)|you['’]ll\s+(?:see|learn|need|be|notice|find|also|want|use)|we['’]ll|we\s+will|i\s+(?:will|am|think|have|would|personally|note|did|hope)|i['’]m
    |copyright|licen[sc]e[ds]?\s|citation|bibtex|@(?:article|misc|inproceedings)|coming\s+soon|future\s+work|roadmap|todo|wip|work\s+in\s+progress|maintainers?|sponsor|funding|great!|yay|happy\s+\w+ing|good\s+luck|have\s+fun|as\s+an\s+ai
    |familiar(?:ity)?\s+with|if\s+you['’]?re\s+new|getting\s+started\s+with|supported\s+by\s+(?:the\s+)?\w+\s+team|special\s+thanks)\b
    |хочешь[\s,—-]|могу\s+(?:предложить|адаптировать|помочь|сделать|показать|составить|подготовить|написать|рассказать|собрать|дать)|давай(?:те)?\s|спасибо|привет|если\s+хочешь|напиши\s+мне|скажи,|отличный\s+вопрос|ты\s+(?:прав|спросил|попал|абсолютно|задал|уже)|интересно,""",
    re.IGNORECASE | re.VERBOSE,
)
_PRAISE = re.compile(
    r"\b(?:state[- ]of[- ]the[- ]art|blazing\w*|amazing\w*|powerful|seamless\w*|cutting[- ]edge|easy[- ]to[- ]use|effortless\w*|revolutionary|game[- ]chang\w+|best[- ]in[- ]class|world[- ]class|incredibl\w+|tremendous\w*|super (?:easy|fast|simple)|rich ecosystem|next[- ]generation|unlock\w*|supercharge\w*|beautiful\w*|popular|exciting|awesome|in the wild|with ease|gigantic|уникальн\w+|потрясающ\w+|дириж[её]р\w*)\b|[🔥🚀⭐🎉✨💎🦥]",
    re.IGNORECASE,
)
_NEWS = re.compile(
    r"^\W*(?:\d{4}[-/.]\d{1,2}|\[?\d{4}/\d{2}|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w*\s+\d|v?\d+\.\d+(?:\.\d+)?\s*[:\-–(]|(?:new|added|fixed|release)\b)|\bis now supported\b|\bhas been (?:added|updated) to\b|(?:imported by|hosted on|latest (?:news|updates))",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"<[a-zA-Z/][^>]*>|\[\[|:::|\{\{|!\[|^\s*[|#]|\\begin|^\s*```|@\w+\{")
_MATH = re.compile(r"\$[^$]*\$|\\[a-zA-Z]+")
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|been|has|have|had|do|does|can|cannot|could|will|would|may|might|must|should|need|needs|let|lets|use|uses|used|using|set|sets|run|runs|\w{3,}(?:ed|es|ts|ns|ls|ps|ds|ks|rs|ys|ws)|\w+n['’]t|\w+ize|\w+ise|make|take|give|get|keep|pass|call|add|load|save|add|remove|enable|disable|start|specify|avoid|return|try|choose|prefer|train|merge|install|reduce|increase|check|ensure|apply|define|convert|provide|include|means?|allow|require|work|support)\b"
    r"|[а-яё]{2,}(?:ет|ёт|ит|ут|ют|ат|ят|ть|ться|тся|ется|ится|ал|ил|ел|ала|ила|ло|ли|ешь|ишь|йте|ите|ай|уй|ен|ена|ено|ны|но)\b|\s[—–]\s|[:=]",
    re.IGNORECASE,
)
_PERSONAL = re.compile(
    r"\b(?:you are|i|my|me|мне|меня|я|мой|моя|моего|твой|твоя|твоего|тебя|тебе|ты)\b", re.IGNORECASE
)
_UNCLEAR = re.compile(
    r"^\W*(?:below|above|the (?:above|following|script|example|code|other|first|second|next|table|result|reason|problem|answer|rest|paper|authors?)\b|which\b|where\b|when (?:this|it)\b|if (?:this|so|not|it)\b|as (?:you|we|can|shown|mentioned|such)\b|so\b|first(?:ly)?,|second(?:ly)?,|next,|then\b|again\b|even\b|same\b|except\b|like\b|(?:as |by )?default\b(?!s))"
    r"|\b(?:in (?:this|the) (?:case|example|following example)|our|some works?|recent(?:ly)?|existing|prior work|experimental results|we (?:observe|find|show|demonstrate|evaluate|conduct|believe|hope|conjecture)|extensive experiments|in this (?:paper|work)|this (?:paper|work)|for this)\b",
    re.IGNORECASE,
)
_LONG_ENOUGH = 6
_ITEM_LONG_ENOUGH = 4
_LONG_LIMIT = 18
"""Words; a limit that says this much is worth keeping although it also points elsewhere."""
_ROW_PROSE = 5


def is_filler(text: str, kind: BlockKind, facet: Facet) -> bool:
    """Whether a reader who wants to know how the zone works loses nothing without it."""
    if kind is BlockKind.SIGNATURE:
        return "(" not in text and "=" not in text
    if kind is BlockKind.ROW:
        return not _row_speaks(text)
    if _MARKUP.search(text):
        return True
    words = tokens(text)
    bare = _MATH.sub(" ", plain(text))
    if len(words) < (_ITEM_LONG_ENOUGH if kind in {BlockKind.ITEM} else _LONG_ENOUGH):
        return True
    if text.rstrip("*_ ")[-1:] in {":", "?", ",", "(", "…", "-", "/"} or text.endswith(("...", "e.g.", "!")):
        return True
    if _is_fragment(bare, kind) or len(bare) < len(text) * 0.4:
        return True
    if _POINTER.search(bare) and not (facet is Facet.LIMITS and len(words) > _LONG_LIMIT):
        return True
    return any(pattern.search(bare) for pattern in (_CHATTER, _NEWS, _PERSONAL))


def _row_speaks(row: str) -> bool:
    """Whether a table row can be read without its header: a name or problem, and prose about it."""
    cells = [cell.strip() for cell in row.strip().strip("|").split("|")]
    named = cells[0].startswith("`") and len(tokens(cells[0])) >= 1
    prose = max((len(tokens(cell)) for cell in cells[1:]), default=0)
    marks = any(re.search("[✅❌⚠✓✗🟢]|^(?:yes|no)$", cell, re.IGNORECASE) for cell in cells[1:])
    return not marks and "<" not in row and prose >= (_ROW_PROSE - 1 if named else _ROW_PROSE + 1)


def _is_fragment(bare: str, kind: BlockKind) -> bool:
    opening = bare.lstrip("*_\"'«([ ")[:1]
    if (
        opening.islower()
        and kind is not BlockKind.ITEM
        and not re.match(r"[\w.]*[_.=(]|[a-z]+[A-Z0-9]", bare.lstrip("*_\"'([ "))
    ):
        return True
    if kind is BlockKind.PARAGRAPH and bare.rstrip("*_\"'»)` ")[-1:] not in {".", ";", "!", "…"}:
        return True
    return _VERB.search(bare) is None


def blemish(text: str) -> float:
    """What speaks against a sentence that is no filler: praise, unclear reference, links, formulae, length. 0..1."""
    bare = plain(text)
    cost = 0.25 * len(_PRAISE.findall(bare)) + 0.35 * bool(_UNCLEAR.search(bare))
    cost += 0.5 * (1 - len(bare) / len(text)) + 0.15 * len(_MATH.findall(bare))
    cost += max(0.0, (len(bare) - 240) / 400) + 0.1 * text.count("\n>") + (0.12 if "(e.g" in text else 0.0)
    return min(1.0, cost)
