"""Drawing subjects at random in a way that can be repeated, and that new subjects hardly disturb.

Each subject's place in the draw is a hash of the seed and its ``subject_id``. When subjects are
added later, the others keep their order, so only those next to a cut can change sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np


def order(subject_ids: Sequence[str], seed: int, purpose: str) -> np.ndarray:
    """Positions of the subjects in the order of the draw; ``purpose`` keeps draws independent."""
    prefix = f"{seed}|{purpose}|".encode()
    places = [hashlib.blake2b(prefix + one.encode(), digest_size=8).digest() for one in subject_ids]
    return np.asarray(sorted(range(len(places)), key=lambda row: (places[row], subject_ids[row])), dtype=int)


def stratified_parts(
    subject_ids: Sequence[str],
    strata: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
    purpose: str,
) -> np.ndarray:
    """The part of each subject, every stratum shared out in proportion.

    A stratum with as many subjects as there are parts gives at least one to each.

    Args:
        subject_ids, strata: one entry a subject.
        shares: part -> share; they add up to 1.
        seed, purpose: see ``order``.
    """
    parts = np.empty(len(subject_ids), dtype=object)
    drawn = order(subject_ids, seed, purpose)
    groups = np.asarray(strata, dtype=object)[drawn]
    for stratum in sorted(set(strata)):
        rows = drawn[groups == stratum]
        counts = _apportion(len(rows), list(shares.values()))
        parts[rows] = np.repeat(np.asarray(list(shares), dtype=object), counts)
    return parts


def stratified_folds(
    subject_ids: Sequence[str], strata: Sequence[str], folds: int, seed: int, purpose: str
) -> np.ndarray:
    """The fold of each subject: each stratum dealt round, and the next goes on where it ended.

    So the folds differ by at most one subject in size, and by at most one within each stratum.
    """
    fold = np.empty(len(subject_ids), dtype=int)
    drawn = order(subject_ids, seed, purpose)
    groups = np.asarray(strata, dtype=object)[drawn]
    dealt = np.concatenate([drawn[groups == stratum] for stratum in sorted(set(strata))])
    fold[dealt] = np.arange(len(dealt)) % folds
    return fold


def _apportion(total: int, shares: list[float]) -> np.ndarray:
    """Whole counts in proportion to ``shares``: largest remainders, and none empty if it can be."""
    exact = np.asarray(shares) * total
    counts = np.floor(exact + 1e-9).astype(int)
    remainders = np.round(exact - counts, 9)
    # Equal remainders go to the smaller part, which misses a subject more.
    for part in np.lexsort((exact, -remainders))[: total - counts.sum()]:
        counts[part] += 1
    while total >= len(shares) and (counts == 0).any():
        counts[np.argmax(counts)] -= 1
        counts[np.argmin(counts)] += 1
    return counts
