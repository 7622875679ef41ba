"""One sentence for a paper's abstract, out of its own sentences, against what people wrote (SciTLDR-A, Apache-2.0).

    python benchmarks/scitldr.py scitldr-a-dev.jsonl [--limit N] [--json]

PATH is a JSON-lines file with `source` (sentences) and `target` (references). ROUGE F1 with stemming; where there are
several references, the best counts, for each metric by itself. `cue + TextRank` is
`karkas.server.offline.ranking.salience`, as the product ships it.

Measured on 2026-11-22 on the development part (618 abstracts), ROUGE-1/2/L: lead 30.1/11.5/23.7, TextRank
34.1/13.1/26.2, cue + TextRank 40.1/19.5/32.6, oracle (by ROUGE-1) 47.8/25.3/38.7. The cues were written before this
measurement and not changed after it. The test part was not looked at.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rouge_score.rouge_scorer import RougeScorer

from karkas.server.offline.ranking import salience, textrank
from karkas.server.offline.words import terms

METRICS = ("rouge1", "rouge2", "rougeL")
Scores = tuple[float, float, float]


def best_match(scorer: RougeScorer, sentence: str, references: Sequence[str]) -> Scores:
    found = [scorer.score(reference, sentence) for reference in references]
    one, two, longest = (max(score[metric].fmeasure for score in found) for metric in METRICS)
    return one, two, longest


def first(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda number: values[number])


def abstracts(path: Path, limit: int | None) -> Iterator[tuple[list[str], list[str]]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if limit is not None and number >= limit:
                return
            record = json.loads(line)
            yield record["source"], record["target"]


def measure(path: Path, limit: int | None) -> dict[str, Scores]:
    scorer = RougeScorer(list(METRICS), use_stemmer=True)
    choosers: dict[str, Callable[[list[str], list[list[str]], list[Scores]], int]] = {
        "lead": lambda *_: 0,
        "TextRank": lambda _sentences, words, _scores: first(textrank(words)),
        "cue + TextRank": lambda sentences, words, _scores: first(salience(sentences, words)),
        "oracle": lambda _sentences, _words, scores: first([score[0] for score in scores]),
    }
    sums = {name: [0.0, 0.0, 0.0] for name in choosers}
    count = 0
    for sentences, references in abstracts(path, limit):
        count += 1
        words = [terms(sentence) for sentence in sentences]
        scores = [best_match(scorer, sentence, references) for sentence in sentences]
        for name, choose in choosers.items():
            for column, value in enumerate(scores[choose(sentences, words, scores)]):
                sums[name][column] += value
    return {name: (a / count, b / count, c / count) for name, (a, b, c) in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.path, options.limit)
    if options.json:
        print(
            json.dumps({name: dict(zip(METRICS, row, strict=True)) for name, row in rows.items()}, indent=2)
        )
        return
    print(f"{'':16}{'R-1':>7}{'R-2':>7}{'R-L':>7}")
    for name, row in rows.items():
        print(f"{name:16}" + "".join(f"{100 * value:7.1f}" for value in row))


if __name__ == "__main__":
    main()
