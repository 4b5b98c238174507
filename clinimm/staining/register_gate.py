"""Whether a registered pair may be trained on, and if not, why not.

The checks go from what makes the others meaningless to what is only a matter of degree; the first one
that fails is the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from clinimm.core.errors import InputRejected
from clinimm.evaluate.metrics import wilson
from clinimm.staining.deformation import Affine
from clinimm.staining.refine_smooth import LEAST_JACOBIAN

#: 90 % of places have to be closer than this, micrometres: less than half a nucleus.
MAX_ERROR_UM = 3.0
#: Share of the source's tissue that has to lie on the target.
LEAST_OVERLAP = 0.25
#: Share of windows that have to show the same structure in both, with 95 % certainty: the lower end of
#: Wilson's interval. Sections of one block reach 0.28 with a sparse marker and 0.4 and more with others.
LEAST_JUDGED = 0.25
#: Judged windows that a figure of error needs. A share alone is not enough: of tissue of other blocks, laid
#: so that it agrees best, up to 5 of 9 to 16 windows agree (46 pairs, benchmarks/registration.py).
FEWEST_JUDGED = 8
#: Sections shrink and swell by a tenth; more is a wrong resolution or a wrong match.
_MOST_STRETCH = 1.35


@dataclass(frozen=True)
class ErrorEstimate:
    """Distances between the same structure in both slides.

    Attributes:
        scale: what was compared: ``cell``, ``region``, ``tissue``, ``landmarks`` or ``none``.
        places: places with structure that were looked at.
        judged: those where the structure was found.
        p50_um, p90_um: percentiles of the distance over the judged; None where they are too few to say.
    """

    scale: str
    places: int
    judged: int
    p50_um: float | None
    p90_um: float | None

    @property
    def judged_share(self) -> float:
        """Share of the places that could be judged."""
        return self.judged / self.places if self.places else 0.0

    @property
    def surely_judged(self) -> float:
        """The share that at least could be judged, at the lower end of its 95 % interval."""
        return wilson(self.judged, self.places)[0] if self.places else 0.0

    @property
    def is_sure(self) -> bool:
        """Whether enough places, and enough of them, show the same structure in both slides."""
        return self.judged >= FEWEST_JUDGED and self.surely_judged >= LEAST_JUDGED


NOT_MEASURED = ErrorEstimate("none", 0, 0, None, None)


@dataclass(frozen=True)
class Findings:
    """What the gate looks at.

    Attributes:
        affine: the linear part of the map.
        overlap_share: share of the source's tissue that lies on the target.
        least_jacobian: smallest local change of area; at most 0 is a fold.
        error: the own estimate after registration.
        landmarks: the error at landmarks after registration, where some were given.
    """

    affine: Affine
    overlap_share: float
    least_jacobian: float
    error: ErrorEstimate
    landmarks: ErrorEstimate | None


def refusal_of(found: Findings, max_error_um: float = MAX_ERROR_UM) -> InputRejected | None:
    """The reason for which a pair may not be trained on; None where it may."""
    for check in (_overlap, _stretch, _same_tissue, _folds):
        if (refusal := check(found)) is not None:
            return refusal
    for error in (found.landmarks, found.error):
        if error is not None and (refusal := _error(error, max_error_um)) is not None:
            return refusal
    return None


def no_overlap(share: float) -> InputRejected:
    """The slides do not show the same place."""
    return InputRejected(
        "no-overlap",
        f"{share:.0%} of the source's tissue lies on the target, at least {LEAST_OVERLAP:.0%} is expected",
        "check that both files are of the same block and region, and that the resolutions are right",
    )


def _overlap(found: Findings) -> InputRejected | None:
    return no_overlap(found.overlap_share) if found.overlap_share < LEAST_OVERLAP else None


def _stretch(found: Findings) -> InputRejected | None:
    largest, smallest = found.affine.stretches()
    if smallest >= 1 / _MOST_STRETCH and largest <= _MOST_STRETCH and not found.affine.mirrors():
        return None
    return InputRejected(
        "registration-failed",
        f"the best map stretches lengths by {smallest:.2f} to {largest:.2f}; sections stretch by 10 %",
        "check both resolutions (micrometres a pixel) and that the slides belong together",
    )


def _same_tissue(found: Findings) -> InputRejected | None:
    error = found.error
    if error.is_sure:
        return None
    return InputRejected(
        "registration-failed",
        f"in {error.judged} of {error.places} places with structure the same structure is seen in both "
        f"slides; that is surely {100 * error.surely_judged:.0f} % or more, and {100 * LEAST_JUDGED:.0f} % "
        f"and {FEWEST_JUDGED} places are the least",
        "check that the slides belong together and both resolutions; a larger region gives more places",
    )


def _folds(found: Findings) -> InputRejected | None:
    if found.least_jacobian >= LEAST_JACOBIAN:
        return None
    return InputRejected(
        "registration-folded",
        f"the deformation presses tissue to {found.least_jacobian:.2f} of its area or folds it; at least "
        f"{LEAST_JACOBIAN} is expected",
        "a section that is folded or torn cannot be laid on the other one: use a region without the fold",
    )


def _error(error: ErrorEstimate, max_error_um: float) -> InputRejected | None:
    if error.p50_um is None or error.p90_um is None or error.p90_um <= max_error_um:
        return None
    apart = "" if error.scale in ("cell", "landmarks") else ", and single cells do not match: other sections?"
    return InputRejected(
        "registration-poor",
        f"by {error.scale}, 90 % of {error.judged} places lie within {error.p90_um:.1f} µm (half within "
        f"{error.p50_um:.1f} µm); {max_error_um:g} µm is the most allowed{apart}",
        "use serial re-stains of one section, or raise the limit where the task needs less",
    )
