"""Topics: clusters of texts by latent semantic analysis and k-means.

Deterministic: seeded with what lies farthest apart, ties by position. Deerwester et al. (1990) for the analysis.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from karkas.server.offline.ranking import weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DIMENSIONS = 24
_ROUNDS = 25
_COMMON = 0.5
"""A term in more than this share of the texts tells no topic."""
_SMALLEST = 0.3
"""A cluster under this share of the mean size is dissolved into its neighbours."""


def clusters(texts: Sequence[Sequence[str]], worth: Sequence[float], wanted: int) -> list[list[int]]:
    """Indices of the texts (given as terms) of each topic; every text is in exactly one."""
    import numpy as np

    rows = _latent(texts)
    seeds = [int(np.argmax(worth))]
    while len(seeds) < wanted:
        nearest = (rows @ rows[seeds].T).max(axis=1)
        gain = (1 - nearest) * np.sqrt(np.asarray(worth) + 0.01)
        gain[seeds] = -1
        seeds.append(int(np.argmax(gain)))
    labels = _settled(rows, rows[seeds])
    sizes = np.bincount(labels, minlength=wanted)
    large = [number for number in range(wanted) if sizes[number] >= max(1, _SMALLEST * len(texts) / wanted)]
    centres = np.stack([rows[labels == number].mean(axis=0) for number in large])
    labels = _settled(rows, centres)
    groups: dict[int, list[int]] = defaultdict(list)
    for at, label in enumerate(labels):
        groups[int(label)].append(at)
    return [groups[label] for label in sorted(groups)]


def _settled(rows: "NDArray[np.float64]", centres: "NDArray[np.float64]") -> "NDArray[np.int64]":
    import numpy as np

    centres = centres.copy()
    labels = np.zeros(len(rows), dtype=np.int64)
    for _ in range(_ROUNDS):
        labels = np.argmax(rows @ centres.T, axis=1).astype(np.int64)
        for number in range(len(centres)):
            if (labels == number).any():
                centre = rows[labels == number].sum(axis=0)
                centres[number] = centre / max(float(np.linalg.norm(centre)), 1e-9)
    return labels


def _latent(texts: Sequence[Sequence[str]]) -> "NDArray[np.float64]":
    """Unit vectors, one a text."""
    import numpy as np

    counts = Counter(term for own in texts for term in set(own))
    kept = sorted(term for term, count in counts.items() if 1 < count <= max(2, _COMMON * len(texts)))
    columns = {term: number for number, term in enumerate(kept)}
    idf = weights(texts)
    matrix = np.zeros((len(texts), max(1, len(columns))))
    for at, own in enumerate(texts):
        for term, count in Counter(own).items():
            if term in columns:
                matrix[at, columns[term]] = (1 + np.log(count)) * idf[term]
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
    left, strengths, _ = np.linalg.svd(matrix, full_matrices=False)
    rows = left[:, :_DIMENSIONS] * strengths[:_DIMENSIONS]
    # The sign of a singular vector is arbitrary and may differ between machines; cosines do not depend on it.
    unit: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return unit
