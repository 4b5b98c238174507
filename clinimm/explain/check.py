"""What each check of a map measures, and one figure of one map; known to pages, so without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Kind:
    """What a check measures.

    Attributes:
        title: for people.
        better: ``lower`` or ``higher``.
        against: what its value is compared with, where it is; then the gain over that is judged.
        whole: whether only the budget as a whole has it, and no modality's map by itself.
    """

    title: str
    better: Literal["lower", "higher"]
    against: str | None = None
    whole: bool = False


#: Every check, and in which direction it is good.
CHECKS: dict[str, Kind] = {
    "completeness": Kind("What the parts leave over, as a share of the change", "lower", whole=True),
    "deletion": Kind("Deletion AUC against random orders", "lower", "random orders"),
    "insertion": Kind("Insertion AUC against random orders", "higher", "random orders"),
    "random_orders": Kind("Share of random orders beaten, deletion and insertion together", "higher"),
    "deletion_edges": Kind("Deletion AUC against an edge detector", "lower", "an edge detector"),
    "insertion_edges": Kind("Insertion AUC against an edge detector", "higher", "an edge detector"),
    "infidelity": Kind("Share of what is lost that the map does not foretell", "lower"),
    "infidelity_scaled": Kind("Share of what is lost that the map does not foretell at any scale", "lower"),
    "sensitivity": Kind("Change of the map, at least, when the input moves by a hair", "lower"),
    "repeatability": Kind("Rank correlation of the map between seeds", "higher"),
    "member_agreement": Kind("Rank correlation of the map between the model's members", "higher"),
    "randomisation": Kind("Rank correlation surely left above chance once all weights are random", "lower"),
    "pointing_game": Kind("Share of maps whose strongest cell meets a known finding", "higher"),
    "mass_inside": Kind("Share of the score on known findings", "higher"),
    "iou": Kind("Overlap of the strongest cells with known findings", "higher"),
}


@dataclass(frozen=True)
class Check:
    """One figure of one map.

    Attributes:
        name: a name in ``CHECKS``.
        modality: whose map; ``all`` for the budget as a whole.
        value: the figure.
        against: the same figure of what it is compared with; None where it stands alone.
    """

    name: str
    modality: str
    value: float
    against: float | None = None

    @property
    def judged(self) -> float:
        """What a limit of the policy is held against: the gain where there is something to beat."""
        if self.against is None:
            return self.value
        gain = self.value - self.against
        return gain if CHECKS[self.name].better == "higher" else -gain
