"""A stainer as the one function that tiles, pairs and pages need."""

from __future__ import annotations

from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from clinimm.staining.context import ContextData
from clinimm.staining.stainer import Context, Stained, Stainer
from clinimm.staining.tile_examples import Run


def runner(stainer: Stainer, context: ContextData | None = None) -> Run:
    """``(image, stain, subject) -> Stained``, the subject's record read once.

    Args:
        stainer: what stains.
        context: the patients' records; None for a stainer of pixels alone.
    """

    @lru_cache(maxsize=64)
    def read(subject_id: str) -> Context | None:
        return None if context is None else stainer.read_context(context.batch([subject_id]))

    def run(image: Float[Tensor, "1 3 row column"], stain: str, subject_id: str) -> Stained:
        found: Stained = stainer(image, stainer.stain_index(stain, len(image)), read(subject_id))
        return found

    return run
