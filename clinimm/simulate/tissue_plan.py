"""What is drawn for one block of tissue, before a pixel is: shapes, stains, what decides positivity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from clinimm.simulate.artefacts import Artefact
from clinimm.simulate.misregister import Misregistration
from clinimm.simulate.stain_look import Look
from clinimm.simulate.tissue_cells import GLAND, LYMPHOCYTE, TUMOUR

#: What decides whether a nucleus is positive.
#: ``determined``: cell type, size and chromatin, all of which H&E shows, and a little noise.
#: ``undetermined``: a toss for every nucleus, every region and every slide, at the same usual rate.
#: ``by_record``: as ``determined``, and a fact of the patient's record moves the threshold.
Rule = Literal["determined", "undetermined", "by_record"]
Compartment = Literal["nucleus", "cytoplasm", "membrane"]


@dataclass(frozen=True)
class Marker:
    """What one antibody stains.

    Attributes:
        name: as the slide's file name states it.
        compartment: where its DAB lies in a positive cell.
        targets: indices into ``CELL_TYPES`` of the cells that it stains.
        graded: whether only target cells with large nuclei and coarse chromatin are positive; else
            all targets are.
        usual_rate: share of positive nuclei where the rule is ``determined``, over many slides.
    """

    name: str
    compartment: Compartment
    targets: tuple[int, ...]
    graded: bool
    usual_rate: float


#: Name -> marker. ``usual_rate`` is measured (and tested) over plans of ``plan_tissue``.
MARKERS: dict[str, Marker] = {
    "KI67": Marker("KI67", "nucleus", (TUMOUR,), True, 0.18),
    "PANCK": Marker("PANCK", "cytoplasm", (TUMOUR, GLAND), False, 0.61),
    "HER2": Marker("HER2", "membrane", (TUMOUR,), True, 0.18),
    "CD3": Marker("CD3", "membrane", (LYMPHOCYTE,), False, 0.19),
}


@dataclass(frozen=True)
class StainPlan:
    """One immunostained section.

    Attributes:
        marker: a name in ``MARKERS``.
        rule: what decides positivity.
        fact: the record's fact, for ``by_record``.
        shared_nuclei: 1 is the H&E's own section, stained again; less is a consecutive section, in
            which that share of the nuclei is found again, slightly moved.
        move: how it lies against the H&E.
        look: its scanner and staining strength.
        artefacts: planted in its picture.
        seed: of everything that belongs to this stain alone.
    """

    marker: str
    rule: Rule = "determined"
    fact: bool = False
    shared_nuclei: float = 1.0
    move: Misregistration = field(default_factory=Misregistration)
    look: Look = field(default_factory=Look)
    artefacts: tuple[Artefact, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class TissuePlan:
    """One block of tissue.

    Attributes:
        pixels: side of the images.
        um_per_pixel: their resolution, micrometres.
        seed: of shapes, nuclei and their texture: the same seed is the same tissue, whatever is
            stained.
        tissue: share of the picture that is tissue.
        epithelium: share of the tissue that is tumour or gland.
        glands: share of the epithelium that forms glands.
        lymphocytes_per_mm2: of stroma, on average.
        activity: 0 to 1, how large and coarse the tumour's nuclei are on average.
        stains: immunostained sections.
        look: scanner and staining strength of the H&E.
        artefacts: planted in the H&E.
    """

    pixels: int = 512
    um_per_pixel: float = 0.5
    seed: int = 0
    tissue: float = 0.92
    epithelium: float = 0.5
    glands: float = 0.3
    lymphocytes_per_mm2: float = 1500.0
    activity: float = 0.5
    stains: tuple[StainPlan, ...] = (StainPlan("KI67"),)
    look: Look = field(default_factory=Look)
    artefacts: tuple[Artefact, ...] = ()

    def __post_init__(self) -> None:
        if not 64 <= self.pixels <= 8192 or not 0.1 <= self.um_per_pixel <= 2:
            raise ValueError(
                f"{self.pixels} pixels of {self.um_per_pixel} um: expected 64 to 8192 pixels of 0.1 to 2 um."
            )
        names = [stain.marker for stain in self.stains]
        if unknown := sorted(set(names) - set(MARKERS)):
            raise ValueError(f"unknown markers {unknown}; known are {', '.join(MARKERS)}.")
        if len(set(names)) < len(names):
            raise ValueError(f"markers {names}: each stands once.")


def plan_tissue(
    generator: np.random.Generator,
    pixels: int,
    stains: tuple[StainPlan, ...],
    crowded: bool | None = None,
    look: Look | None = None,
) -> TissuePlan:
    """Draw a block as a hospital has them: more or less tumour, glands, lymphocytes and activity.

    Args:
        generator: drawn from the same number of times whatever the other arguments are.
        pixels: side of the images.
        stains: immunostained sections.
        crowded: many lymphocytes or few; None leaves it to chance.
        look: of the H&E.
    """
    tossed = bool(generator.random() < 0.5)
    lymphocytes = float(generator.uniform(0.8, 1.25)) * (
        2600.0 if (tossed if crowded is None else crowded) else 700.0
    )
    return TissuePlan(
        pixels=pixels,
        seed=int(generator.integers(2**32)),
        tissue=float(generator.uniform(0.85, 0.97)),
        epithelium=float(generator.uniform(0.35, 0.65)),
        glands=float(generator.uniform(0.1, 0.5)),
        lymphocytes_per_mm2=lymphocytes,
        activity=float(generator.uniform(0.25, 0.75)),
        stains=stains,
        look=look or Look(),
    )
