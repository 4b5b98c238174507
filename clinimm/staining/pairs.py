"""A pair: one place of one specimen in its source stain and in the stains to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from clinimm.core.errors import DataError


@dataclass(frozen=True)
class StainPair:
    """Images of the same place, registered onto the source.

    Attributes:
        subject_id: whose it is; splits are by subject (law 2).
        specimen: the block or slide, without identifiers.
        source: (row, column, 3).
        targets: stain -> (row, column, 3), where the source has its pixels.
        valid: True where registration overlaps; elsewhere a target says nothing.
        resolution_um: micrometres a pixel of all of them.
        synthetic: whether any of them was made and not scanned: marked as generated, derived from such
            (law 6), or simulated.
        simulated: whether it is synthetic only as a slide of the simulated hospital, which is there to be
            learned from.
    """

    subject_id: str
    specimen: str
    source: UInt8[np.ndarray, "row column 3"]
    targets: Mapping[str, UInt8[np.ndarray, "row column 3"]]
    valid: Bool[np.ndarray, "row column"]
    resolution_um: float
    synthetic: bool = False
    simulated: bool = False

    def __post_init__(self) -> None:
        shape = self.source.shape
        if len(shape) != 3 or shape[2] != 3 or self.source.dtype != np.uint8:
            raise ValueError(
                f"the source of {self.name} is {self.source.dtype} {shape}; uint8 RGB is needed."
            )
        for stain, target in self.targets.items():
            if target.shape != shape or target.dtype != np.uint8:
                raise ValueError(
                    f"{stain} of {self.name} is {target.dtype} {target.shape}; the source is uint8 {shape}."
                )
        if self.valid.shape != shape[:2] or self.valid.dtype != np.bool_:
            raise ValueError(
                f"`valid` of {self.name} is {self.valid.dtype} {self.valid.shape}; "
                f"bool {shape[:2]} is needed."
            )

    @property
    def name(self) -> str:
        """Subject and specimen, for messages."""
        return f"{self.subject_id}/{self.specimen}"


def stains_of(pairs: Sequence[StainPair]) -> tuple[str, ...]:
    """The stains of which at least one pair has an image, sorted."""
    return tuple(sorted({stain for pair in pairs for stain in pair.targets}))


def check_pairs(
    training: Sequence[StainPair], tuning: Sequence[StainPair], resolution_um: float, allow_synthetic: bool
) -> None:
    """Make sure that a stainer may be trained on these.

    Args:
        training: what the loss sees.
        tuning: what decides when to stop; may be empty.
        resolution_um: micrometres a pixel that the model works at.
        allow_synthetic: whether images that are marked as generated may be learned from.

    Raises:
        DataError: there is nothing to learn, a subject stands on both sides, a resolution is not
            the model's, or an image is marked as generated and that was not allowed.
    """
    if not stains_of(training):
        raise DataError("no training pair has a target; were all pairs refused at registration?")
    if both := sorted({p.subject_id for p in training} & {p.subject_id for p in tuning}):
        raise DataError(f"subjects stand in training and in tuning: {', '.join(both[:5])}; split by subject.")
    if unseen := sorted(set(stains_of(tuning)) - set(stains_of(training))):
        raise DataError(f"tuning pairs have stains that no training pair has: {', '.join(unseen)}.")
    for pair in (*training, *tuning):
        if abs(pair.resolution_um / resolution_um - 1) > 0.01:
            raise DataError(
                f"{pair.name} has {pair.resolution_um:g} um a pixel, the model works at {resolution_um:g}: "
                "resample it, or set staining.resolution_um."
            )
        if pair.synthetic and not pair.simulated and not allow_synthetic:
            raise DataError(
                f"{pair.name} is marked as generated. A model that learns from made images learns its maker: "
                "leave it out, or set staining.allow_synthetic_input where that is meant (simulations)."
            )
