"""The learning rate over a training: up at first, then down."""

from __future__ import annotations

import numpy as np


def warm_cosine(done: float, warm_up: float, floor: float) -> float:
    """Share of the peak learning rate: a linear rise, then half a cosine down.

    Args:
        done: share of the steps that are made, 0 to 1.
        warm_up: share of the steps in which it rises.
        floor: what is left at the end.

    Example:
        >>> [round(warm_cosine(done, 0.1, 0.02), 3) for done in (0.0, 0.05, 0.1, 0.55, 1.0)]
        [0.01, 0.5, 1.0, 0.51, 0.02]
    """
    if done < warm_up:
        return max(0.01, done / warm_up)
    angle = np.pi * (done - warm_up) / (1 - warm_up)
    return float(floor + (1 - floor) * 0.5 * (1 + np.cos(angle)))
