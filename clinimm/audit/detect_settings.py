"""What the detectors of ``clinimm.audit.detect`` are asked to look at."""

from __future__ import annotations

from pydantic import Field

from clinimm.config import Frozen


class DetectSettings(Frozen):
    """The `table: detect` part of a policy; each detector runs where something is named for it."""

    slices: bool = Field(False, description="Search slices of up to three attributes and features.")
    features: tuple[str, ...] = Field(
        (), description="Further columns to slice by; numbers with many values are cut into fifths."
    )
    outcome: str = Field(
        "", description="Column of an outcome that did not make the label, 0 and 1 or a number."
    )
    time: str = Field("", description="Column of the day, or of the period, of a row: gaps over time.")
    periods: int = Field(6, ge=3, le=60, description="Periods of equal size that days are divided into.")
    metadata: tuple[str, ...] = Field(
        (), description="Columns that should not tell the label: site, device, view."
    )
    embedding: str = Field(
        "", description="Columns of an embedding by what their names begin with, such as emb_."
    )
    alpha: float = Field(0.05, gt=0, lt=1, description="Chance that a detector finds what is not there.")
    permutations: int = Field(1000, ge=199, le=100_000, description="Draws of each permutation null.")

    @property
    def asked(self) -> bool:
        """Whether any detector has something to do."""
        return bool(
            self.slices or self.features or self.outcome or self.time or self.metadata or self.embedding
        )
