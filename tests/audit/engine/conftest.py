"""Rows with groups, ties and several rows a subject, drawn once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from clinimm.audit.engine.rows import Coded, Rows


def draw_rows(n: int, seed: int = 0, digits: int = 2, subjects: int | None = None) -> Rows:
    """Rows of two attributes; probabilities are rounded so that there are ties."""
    generator = np.random.default_rng(seed)
    logit = generator.normal(-1.0, 1.4, n)
    label = (generator.random(n) < expit(0.8 * logit - 0.2)).astype(np.uint8)
    attributes = {
        "race": Coded(generator.choice(4, n, p=[0.6, 0.2, 0.15, 0.05]), ("a", "b", "c", "(missing)")),
        "sex": Coded(generator.integers(0, 2, n), ("female", "male")),
    }
    cluster = None if subjects is None else generator.integers(0, subjects, n)
    return Rows(label, np.round(expit(logit), digits), attributes, cluster)


@pytest.fixture
def rows() -> Rows:
    return draw_rows(3000)


def members(rows: Rows, attributes: tuple[str, ...], levels: tuple[str, ...]) -> np.ndarray:
    """Who belongs to a group, found the slow way."""
    found = np.ones(rows.n, dtype=bool)
    for name, level in zip(attributes, levels, strict=True):
        column = rows.attributes[name]
        found &= np.array(column.levels)[column.code] == level
    return found
