"""Shortcut probes: what can be told from what should not tell it?

Two questions, one tool. Can the *label* be told from metadata alone (site, device, view, hour)? Then a
model may have learned who was examined where instead of who is ill. Can the *site, device, view, sex
or race* be told from a model's embedding? Then the embedding carries it; whether the answer uses it
is another question, which gaps by group and slices answer.

The probe is a ridge regression on the levels, cross-fitted: every row is scored by a fit without it. A
fit to labels in another order is one product with the same matrix, so hundreds of permutations cost
little, and the null is that of the whole procedure (folds, ridge and all).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float64, Int, UInt8
from numpy import ndarray
from scipy.stats import rankdata

from clinimm.audit.engine.ranking import Ranking
from clinimm.audit.engine.rows import Coded, Rows
from clinimm.audit.groups import MISSING

_FOLDS = 5
_FEWEST = 10
_AT_ONCE = 64


@dataclass(frozen=True)
class ProbeResult:
    """How well a linear probe tells one thing.

    Attributes:
        source: what it was told from.
        target: what was to be told, such as ``device: B`` or ``label``.
        n, positives: rows, and rows that have it.
        auroc, low, high: cross-fitted, with DeLong's interval on the logit scale.
        null: AUROC that 95 % of permuted targets stay below.
        p: share of permutations in which any target of the same probe is told as surely (max-T).
    """

    source: str
    target: str
    n: int
    positives: int
    auroc: float
    low: float
    high: float
    null: float
    p: float

    def raised(self, alpha: float = 0.05) -> bool:
        """Whether more can be told than chance would."""
        return self.p <= alpha

    @property
    def sentence(self) -> str:
        """The finding for people, at an alpha of 5 %."""
        return self.said(0.05)

    def said(self, alpha: float) -> str:
        """The finding for people."""
        said = "can be told" if self.raised(alpha) else "is not shown to be told"
        return (
            f"{self.target} {said} from {self.source}: AUROC {self.auroc:.3f} ({self.low:.3f} to "
            f"{self.high:.3f}, {self.positives:,} of {self.n:,} rows have it), where 95 % of permutations "
            f"stay below {self.null:.3f}; p {self.p:.3f}."
        )


def probe(
    features: Float[ndarray, "row feature"],
    targets: Mapping[str, Coded],
    source: str,
    *,
    cluster: Int[ndarray, " row"] | None = None,
    within: Int[ndarray, " row"] | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> list[ProbeResult]:
    """Probe an embedding, or metadata, for each level of each target.

    Args:
        features: what is told from; columns are standardised here, so their scale does not matter.
        targets: what is to be told; levels that the same rows have, or all others, are one. A level with
            fewer than ten rows on either side is left out, as is that of missing values; of two only the
            second is probed.
        source: what the features are, for people.
        cluster: subjects; one row of each is drawn where they have several.
        within: permute only among rows of the same number, such as the label: what the target and the
            features share only because both go with the label is then no finding.
        permutations: of the null.
        seed: of rows, folds and permutations.
    """
    take = _one_each(cluster, len(features), seed)
    values = _standardised(np.asarray(features, dtype=float)[take])
    strata = np.zeros(len(take), dtype=np.int64) if within is None else np.asarray(within)[take]
    fold = np.random.default_rng([seed, 8]).permutation(len(take)) % _FOLDS
    orders = _orders(strata, permutations, seed)
    found, excess, draws = [], [], []
    for titles, hit in _asked(targets, take):
        result, drawn = _probed(values, hit, fold, orders, source, " = ".join(titles))
        spread = max(float(drawn.std()), 1e-9)
        found.append(result)
        excess.append((result.auroc - drawn.mean()) / spread)
        draws.append((drawn - drawn.mean()) / spread)
    if not found:
        return []
    largest = np.max(draws, axis=0)
    return [
        replace(one, p=float((1 + np.sum(largest >= z - 1e-12)) / (1 + permutations)))
        for one, z in zip(found, excess, strict=True)
    ]


def metadata_probe(
    metadata: Mapping[str, Coded],
    label: Int[ndarray, " row"],
    *,
    cluster: Int[ndarray, " row"] | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> ProbeResult | None:
    """How well the label is told from metadata alone; None with fewer than ten rows of a class.

    Args:
        metadata: columns that say nothing about illness, one level a row.
        label: 1 for the outcome.
        cluster: subjects; one row of each is drawn where they have several.
        permutations: of the null.
        seed: of rows, folds and permutations.
    """
    source = f"{', '.join(metadata)} alone"
    target = {"label": Coded(np.asarray(label).astype(np.int64), ("0", "1"))}
    found = probe(
        one_hot(list(metadata.values())),
        target,
        source,
        cluster=cluster,
        permutations=permutations,
        seed=seed,
    )
    return found[0] if found else None


def one_hot(columns: Sequence[Coded]) -> Float64[ndarray, "row level"]:
    """A column for each level of each attribute."""
    return np.concatenate([np.eye(len(column.levels))[column.code] for column in columns], axis=1)


def cross_fitted(
    features: Float64[ndarray, "row feature"],
    targets: Float64[ndarray, "row target"],
    fold: Int[ndarray, " row"],
) -> Float64[ndarray, "row target"]:
    """Ridge scores of every row by a fit to the other folds.

    The penalty is the number of columns: a direction whose variance is less than columns over rows
    counts for little. It looks at no target, so it is the same under permutation.
    """
    scores = np.zeros_like(targets)
    for number in np.unique(fold):
        test, train = fold == number, fold != number
        mean, centre = features[train].mean(axis=0), targets[train].mean(axis=0)
        inner = features[train] - mean
        penalty = features.shape[1] * np.eye(features.shape[1])
        weights = np.linalg.solve(inner.T @ inner + penalty, inner.T @ (targets[train] - centre))
        # Each fold's own mean is left out: it falls as the held-out rows' rises, and would rank folds.
        scores[test] = (features[test] - mean) @ weights
    return scores


def _probed(
    values: ndarray, hit: ndarray, fold: ndarray, orders: ndarray, source: str, target: str
) -> tuple[ProbeResult, Float64[ndarray, " draw"]]:
    own = cross_fitted(values, hit[:, None].astype(float), fold)[:, 0]
    null = []
    for start in range(0, len(orders), _AT_ONCE):
        permuted = hit[orders[start : start + _AT_ONCE]].T.astype(float)
        null.append(_auroc_of_columns(cross_fitted(values, permuted, fold), permuted))
    drawn = np.concatenate(null)
    scale = np.ptp(own) or 1.0
    rows = Rows(hit, (own - own.min()) / scale, {})
    figure = Ranking(rows.segments(rows.everybody())).auroc()
    low, high = (float(end[0]) for end in figure.bounds(0.95))
    value = float(figure.value[0])
    null_end = float(np.quantile(drawn, 0.95))
    result = ProbeResult(source, target, len(hit), int(hit.sum()), value, low, high, null_end, float("nan"))
    return result, drawn


def _auroc_of_columns(scores: ndarray, hits: ndarray) -> Float64[ndarray, " draw"]:
    positives = hits.sum(axis=0)
    ranks = rankdata(scores, axis=0)
    above = (ranks * hits).sum(axis=0) - positives * (positives + 1) / 2
    return np.asarray(above / (positives * (len(hits) - positives)))


def _orders(strata: ndarray, permutations: int, seed: int) -> Int[ndarray, "draw row"]:
    """Orders that move rows only within their stratum."""
    generator = np.random.default_rng([seed, 9])
    place = np.argsort(strata, kind="stable")
    orders = np.empty((permutations, len(strata)), dtype=np.int64)
    for draw in range(permutations):
        orders[draw, place] = np.lexsort((generator.random(len(strata)), strata))
    return orders


def _one_each(cluster: ndarray | None, rows: int, seed: int) -> Int[ndarray, " kept"]:
    if cluster is None:
        return np.arange(rows)
    order = np.random.default_rng([seed, 7]).permutation(rows)
    _, first = np.unique(np.asarray(cluster)[order], return_index=True)
    return np.sort(order[first])


def _asked(
    targets: Mapping[str, Coded], take: Int[ndarray, " kept"]
) -> list[tuple[list[str], UInt8[ndarray, " kept"]]]:
    """Each level that is probed: its names (a site and its only device are one), and who has it.

    A level that all others have is the same question turned round, and named so.
    """
    asked: dict[bytes, tuple[list[str], UInt8[ndarray, " kept"]]] = {}
    for name, column in targets.items():
        code = column.code[take]
        for place in _levels(code, column.levels):
            hit = (code == place).astype(np.uint8)
            title = name if column.levels == ("0", "1") else f"{name}: {column.levels[place]}"
            turned = asked.get((1 - hit).tobytes())
            if turned is not None:
                turned[0].append(f"not {title}")
            else:
                asked.setdefault(hit.tobytes(), ([], hit))[0].append(title)
    return list(asked.values())


def _levels(code: ndarray, levels: Sequence[str]) -> list[int]:
    count = np.bincount(code, minlength=len(levels))
    able = [place for place in range(len(levels)) if min(count[place], len(code) - count[place]) >= _FEWEST]
    able = [place for place in able if levels[place] != MISSING]
    return [max(able)] if len(levels) == 2 and len(able) == 2 else able


def _standardised(values: ndarray) -> Float64[ndarray, "row feature"]:
    spread = values.std(axis=0)
    kept = spread > 1e-12
    if not kept.any():
        return np.zeros((len(values), 1))
    return np.asarray((values[:, kept] - values[:, kept].mean(axis=0)) / spread[kept])
