"""Which facet of a zone a sentence speaks to, by cue patterns in English and Russian.

A cue is a weight and a pattern; a facet's strength is the capped sum of its cues. The heading above a sentence
counts as a weak cue of its own.
"""

import re
from dataclasses import dataclass

from karkas.policies.distillates import Facet
from karkas.server.offline.words import plain
from karkas.server.protocol import BlockKind

_CODE_NAME = r"`[^`\n]{1,60}`"
_SUBJECT = (
    r"(?:\W*(?:(?:an?|the)\s+)?(?:[`*\[(]*[\w+-][^\s.;:!?]*\s+){1,7}?(?:\([^)]{1,60}\)\s+|\([^)]*\)\),?\s+)?)"
)
_NO_TERM = r"(?!\W*(?:the\s+)?(?:\w+ing\b|below|above|first|next|last|goal|aim|idea|reason|result|following|only|other|same|main|easiest|best|simplest|default|there|here|what|if|when|for|in|on|at|all|both|each|one|some|most|many|you|we|i|our|your|his|her|who|which|how|why|where|as|by|with|after|before|since|because|note|notice|training|example|point|problem|question|answer)\b)"

_CUES: dict[Facet, tuple[tuple[float, str], ...]] = {
    Facet.DEFINITION: (
        (
            0.75,
            rf"^{_NO_TERM}{_SUBJECT}(?:is|are)\s+(?:an?|the|one of the|another)\s+(?!(?:same|first|only|best|most|good|bad|bit|key|main|default|case)\b)(?:[\w`*-]+\s+){{0,6}}?\w*(?:method|technique|librar|framework|algorithm|approach|variant|adapter|optimi[sz]er|format|strategy|class|function|module|protocol|tool|type|kind|form|set|way|extension|implementation|interface|wrapper|package|matri|model|layer|object|value|procedure|mechanism|process|container|component|system|service|engine|file|client|server|decorator|exception|representation|objective|loss|step|stage|scheme|family|backend|kernel|trainer|dataset|data|api|command|setting|option|feature)",
        ),
        (0.5, rf"^{_NO_TERM}{_SUBJECT}(?:is|are)\s+(?:an?|the)\s"),
        (
            0.8,
            r"\b(?:refers? to|stands? for|is defined as|are defined as|is short for|is known as|are called|is called)\b",
        ),
        (
            0.45,
            r"^\W*(?:we|this paper|this work|this library|this package)\s+(?:propose|introduce|present)s?\b",
        ),
        (
            0.4,
            rf"^{_NO_TERM}\W*[\w`*-]+(?:\s+[\w`*-]+){{0,3}}\s+(?:provides?|implements?|allows?|lets?|enables?|offers?|represents?|denotes?|means)\s",
        ),
        (
            0.4,
            rf"^{_NO_TERM}{_SUBJECT}(?:is|are|was)\s+(?:designed|used|intended|meant|built)\s+(?:to|for|as)\b",
        ),
        (
            0.75,
            r"^\W*[\w«»\"`*\s-]{2,60}\s[—–-]\s(?:это\b|способ|метод|набор|процесс|механизм|система|слой|часть|вид|инструмент)",
        ),
        (
            0.7,
            r"\b(?:называется|называют|представля(?:ет|ют) собой|означает|определя(?:ется|ют) как|является|являются)\b",
        ),
        (0.5, r"^\W*под\s.{3,40}\s(?:понима|имеется|имеем)"),
    ),
    Facet.MECHANISM: (
        (
            0.55,
            r"\b(?:works? by|by (?:decompos|freez|inject|add|insert|learn|train|replac|splitt|shard|scal|multiply|initiali|stor|comput|combin|mask|pack|reus|wrapp|quantiz|reduc|rotat|apply)\w*ing?)\b",
        ),
        (
            0.45,
            r"\b(?:internally|under the hood|behind the scenes|during the (?:forward|backward)|at (?:run|load|import|training|inference) ?time|in the background|on each (?:step|call|request))\b",
        ),
        (
            0.45,
            r"\b(?:consists? of|is (?:made|composed) of|are (?:made|composed) of|is split|are split|is divided|composed of|is built on|is based on|are based on|decompos\w+)\b",
        ),
        (
            0.4,
            r"\b(?:comput\w+|stor(?:es|ed|ing)|shard\w*|freez\w+|frozen|multipl(?:y|ies|ied)|inject\w+|insert\w+|replac(?:es|ed|ing)|convert(?:s|ed)|wraps?|wrapped|dequanti[sz]\w+|quanti[sz]es|concatenat\w+|merg(?:es|ed)|updates?d?|initiali[sz]e[sd]|propagat\w+|dispatch\w+|calls?|returns?|yields?|passes|sends?|receives?|retries|caches?|caught|waits?)\b",
        ),
        (
            0.35,
            r"\b(?:determines?|depends? on|is determined|controlled by|responsible for|as a result of|so that|which means|because|in order to|rather than|is applied|are applied|is added|are added|are passed|is passed|is loaded|are loaded|is kept|are kept)\b",
        ),
        (
            0.4,
            r"\b(?:вычисля|состоит из|состоят из|разбива|складыва|хранит|происходит|активиру|преобразу|формиру|работает|строится|проходит|создаёт|создает|управля|влияет|запуска|получает|передаёт|переда[её]тся)\w*",
        ),
        (
            0.4,
            r"\b(?:за сч[её]т|пут[её]м|внутри|на основе|благодаря|в результате|потому что|так как|через)\b",
        ),
    ),
    Facet.PARAMETER: (
        (
            0.8,
            r"\b(?:defaults? to|default(?: value)?s? (?:is|are|of|for)|\(default\b|default[:=]|by default|default is)",
        ),
        (
            0.5,
            rf"\b(?:set(?:ting)?|sets|pass(?:ing)?|configure|specify|specifying|use|using|adjust|increase|decrease|via|with)\s+(?:the\s+)?{_CODE_NAME}",
        ),
        (
            0.5,
            rf"{_CODE_NAME}\s+(?:parameter|argument|option|flag|setting|field|key|config\w*|keyword|attribute|env\w*)\b",
        ),
        (
            0.45,
            rf"^\W*{_CODE_NAME}\**(?:\s*\([^)]*\))?\s*(?::|—|–|-|\bis\b|\bcontrols?\b|\bspecif|\bdetermin|\bsets?\b|\bdenotes?\b|\bcan be\b|\bshould\b)",
        ),
        (
            0.45,
            r"\b(?:controls? (?:the|how|whether)|specif(?:y|ies) (?:the|how|whether|which)|determines (?:the|how|whether)|hyper-?parameters?|recommended value|should be set|can be set|is set to|set it to|ranges? from|between \d)\b",
        ),
        (0.3, r"`\w+\s*[=:]\s*[^`]+`|`--?[\w-]+`"),
        (
            0.25,
            r"\b(?:rank|alpha|learning rate|batch size|timeout|retries|limit|interval|size|number of)\b.{0,40}\b\d",
        ),
        (0.8, r"\bпо умолчанию\b"),
        (0.45, r"\b(?:параметр|аргумент|настройк|опци|флаг|гиперпараметр|значени|коэффициент|порог)\w*"),
        (0.35, r"\b(?:зада[её]т|устанавлива|указыва|регулиру|настраива|контролиру)\w*"),
    ),
    Facet.LIMITS: (
        (
            0.7,
            r"\b(?:(?:is|are|does|do|was|were|has|have|can|could|will|would|should|must)(?:n['’]t| not| never)|cannot|no longer|never)\b(?!\s+(?:only|just|need|have to))",
        ),
        (
            0.6,
            r"\b(?:limitations?|unsupported|incompatib\w+|not (?:yet )?(?:supported|implemented|compatible|recommended|possible|available|work)|caveats?|pitfalls?|drawbacks?|downsides?|known issues?|deprecat\w+|experimental)\b",
        ),
        (
            0.5,
            r"\b(?:only (?:works?|supports?|supported|applies|applied|available|possible|valid|be used|be applied|for|if|when|on|in|one|linear|the)|currently only|supports? only|works? only|limited to|restricted to|valid for|except for|mutually exclusive)\b",
        ),
        (
            0.5,
            r"\b(?:requires?|required|must be|must have|must match|is necessary|needs? to be|at least|at most|make sure|minimum|maximum)\b",
        ),
        (
            0.5,
            r"\b(?:may|might|can|could|will|would)\s+(?:\w+\s+)?(?:cause|lead to|result in|fail|break|crash|hang|degrade|slow|increase (?:memory|latency)|reduce (?:accuracy|performance|quality)|be slower|be incorrect|overfit|diverge|leak|raise|silently|lose|hurt|interfere)\b",
        ),
        (
            0.5,
            r"\b(?:raises?|throws?|errors? out|out[- ]of[- ]memory|OOM|NaN|fails?|failure|overhead|at the cost|expense of|error|mismatch|warning|careful|beware|avoid|slower|instab\w+|risk)\b",
        ),
        (
            0.7,
            r"\b(?:не (?:поддержива|работа|подход|рекоменду|следует|стоит|гарант|может|могут|видит|знает|умеет|способн|сохраня|хранит|является|дела|име)\w*|нельзя|невозможно)\b",
        ),
        (
            0.5,
            r"\b(?:ограничен\w+|требует\w*|только если|риск\w*|опасн\w+|ошибк\w+|осторожн\w+|недостат\w+|проблем\w+|приводит к|может привести|слишком|избега\w+|теря\w+|минус\w*|трудно|сложно)\b",
        ),
    ),
    Facet.COMPARISON: (
        (
            0.7,
            r"\b(?:compared (?:to|with)|in contrast|whereas|unlike|as opposed to|versus|vs\.?|trade-?offs?|outperforms?|on par with|differs? from|difference between|differences?)\b",
        ),
        (
            0.6,
            r"\b(?:more|less|fewer|better|worse|faster|slower|higher|lower|larger|smaller|cheaper|easier|harder|simpler|stronger|weaker|greater|longer|shorter|\w{3,}er)\s+(?:[\w`-]+\s+){0,4}than\b",
        ),
        (
            0.6,
            r"\b(?:prefer(?:red|able)?|choose|opt for|recommended (?:for|when|if|over)|we recommend|instead of|a good choice|best for|suited (?:for|to)|suitable (?:for|when|if)|ideal for|useful (?:for|when|if)|good for|use \S+ (?:when|if|for)|similar to|equivalent to|alternative to|replacement for|comparable)\b",
        ),
        (
            0.3,
            r"\b(?:while|although|but|however|rather than)\b.{5,}\b(?:more|less|better|worse|faster|slower|only|no|not)\b",
        ),
        (
            0.65,
            r"\b(?:в отличие от|по сравнению|лучше|хуже|быстрее|медленнее|тогда как|в то время как|вместо|разниц\w+|отлича\w+|сильнее|слабее|предпочт\w+|выбира\w+|больше,? чем|меньше,? чем|а не)\b",
        ),
        (0.4, r"\b(?:чем|либо|аналог\w*|подобн\w+|эквивалент\w+)\b"),
    ),
    Facet.PROCEDURE: (
        (
            0.3,
            r"^\W*(?:use|set|run|install|call|pass|add|enable|increase|decrease|reduce|choose|make sure|ensure)\b.*\b(?:to|so that|if|when|for|before|after|instead)\s",
        ),
        (
            0.5,
            r"^\W*(?:use|set|run|install|create|call|load|save|pass|add|enable|disable|specify|configure|start|make sure|ensure|wrap|merge|import|define|initiali[sz]e|apply|check|try|increase|decrease|reduce|select|choose|put|provide|define|convert|train|build|write|replace|remove|upgrade|update|prepare|launch|export|adjust|test|measure|keep|follow|turn|register|reset|quantize|freeze|subclass|override|decorate|raise|catch|close)\s+(?!case|of\b)[\w`\"'\[*]",
        ),
        (
            0.6,
            r"^\W*(?:to|in order to)\s+\w+[^.;]{3,100},\s*(?:\w+\s+){0,2}(?:call|use|set|run|add|pass|install|create|you|make|simply|just|specify|enable|load|wrap|first|define|import|train|follow)",
        ),
        (
            0.45,
            r"\byou(?:'ll)? (?:can|should|need to|must|have to|could|may)\s+(?:\w+\s+)?(?:use|set|run|call|load|save|pass|add|enable|disable|specify|configure|install|create|wrap|merge|train|define|apply|manually|start|quantize|initialize|provide|combine|select|check|do|also)\b",
        ),
        (
            0.4,
            rf"\b(?:by (?:calling|setting|passing|using|running|adding|specifying|enabling|defining|wrapping))\s+(?:the\s+)?(?:{_CODE_NAME}|\[|\w)",
        ),
        (0.25, rf"{_CODE_NAME}.*\b(?:method|function|command)\b"),
        (
            0.55,
            r"^\W*(?:используй|запусти|создай|добавь|задай|проверь|выбери|настрой|возьми|сделай|начни|сначала|установи|открой|сохрани|попробуй|укажи|определи|сформулируй|отдели|раздели|собери|напиши)\w*",
        ),
        (0.5, r"\b(?:нужно|необходимо|следует|надо|достаточно|можно|стоит)\s+(?:\w+\s+)?\w+ть\b"),
        (0.35, r"^\W*чтобы\b|\b(?:шаг \d|пошагов)"),
    ),
}

_HEADINGS: dict[Facet, str] = {
    Facet.DEFINITION: r"overview|introduction|what (?:is|are)|about|background|concept|обзор|введение|что так|определени|сут",
    Facet.MECHANISM: r"how (?:it|\w+) works|implementation|internals?|architecture|details|algorithm|design|как (?:это )?работает|механизм|устройств|архитектур",
    Facet.PARAMETER: r"param|argument|config|option|setting|field|hyper|initiali|default|rank|attribute|reference|параметр|настройк|аргумент",
    Facet.LIMITS: r"limit|caveat|known issue|troubleshoot|warning|pitfall|requirement|compatib|faq|error|important|note|unsupported|gotcha|ограничен|риск|проблем|ошибк|важно|границ",
    Facet.COMPARISON: r"compar|vs\b|versus|choos|which|when to|trade|benchmark|difference|сравнен|выбор|отлич|против",
    Facet.PROCEDURE: r"usage|quick ?start|getting started|how to|install|step|guide|example|tutorial|recipe|setup|tips|best practice|как (?!это|работает)|шаг|инструкц|рекомендац|совет",
}

_COMPILED = {
    facet: tuple((weight, re.compile(pattern, re.IGNORECASE)) for weight, pattern in cues)
    for facet, cues in _CUES.items()
}
_COMPILED_HEADINGS = {facet: re.compile(pattern, re.IGNORECASE) for facet, pattern in _HEADINGS.items()}
_HEADING_WEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class FacetCue:
    """The facet that a sentence speaks to most, and how plainly: 0..1."""

    facet: Facet
    strength: float


def facet_of(
    text: str, headings: tuple[str, ...] = (), kind: BlockKind = BlockKind.PARAGRAPH
) -> FacetCue | None:
    """The strongest facet, or None where nothing in the sentence itself says so.

    >>> facet_of("The timeout defaults to 5 seconds.").facet.value
    'parameter'
    """
    if kind is BlockKind.SIGNATURE:
        return FacetCue(Facet.PARAMETER, 0.6)
    words = plain(text)
    strengths = {facet: _strength(words, cues) for facet, cues in _COMPILED.items()}
    if not any(strengths.values()):
        return None
    for heading in headings[-1:]:
        for facet, pattern in _COMPILED_HEADINGS.items():
            if strengths[facet] and pattern.search(heading):
                strengths[facet] += _HEADING_WEIGHT
    # A statement of a default, a definition or a limit is also often phrased as a procedure; the former say more.
    best = max(_PRECEDENCE, key=lambda facet: (round(strengths[facet], 6), -_PRECEDENCE.index(facet)))
    return FacetCue(best, min(1.0, strengths[best]))


_PRECEDENCE = (
    Facet.COMPARISON,
    Facet.PARAMETER,
    Facet.LIMITS,
    Facet.DEFINITION,
    Facet.MECHANISM,
    Facet.PROCEDURE,
)


def _strength(text: str, cues: tuple[tuple[float, re.Pattern[str]], ...]) -> float:
    """The strongest cue, and a third of each further one."""
    weights = sorted((weight for weight, pattern in cues if pattern.search(text)), reverse=True)
    return weights[0] + sum(weights[1:]) / 3 if weights else 0.0


def facet_strength(facet: Facet, text: str) -> float:
    """How plainly a sentence speaks to this facet, 0..1."""
    return min(1.0, _strength(plain(text), _COMPILED[facet]))
