"""What ``truth.json`` says about a patient's block: counts, indices, landmarks, artefacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from clinimm.simulate.artefacts import Artefact
from clinimm.simulate.fhir import instant
from clinimm.simulate.tissue import STAINED_FROM, StainedSection
from clinimm.simulate.tissue_cells import TUMOUR
from clinimm.simulate.tissue_positivity import positivity_index
from clinimm.simulate.tissue_slides import BLOCK, HE, Block, StainedSlide


def block_truth(block: Block) -> dict[str, Any]:
    """Points are (column, row) in level-0 pixels; boxes exclude their right and bottom edge."""
    tissue = block.tissue
    return {
        "block": BLOCK,
        "um_per_pixel": tissue.plan.um_per_pixel,
        "pixels": tissue.plan.pixels,
        "fact": {"factor": block.knobs.fact, "present": block.fact},
        "nuclei": len(tissue.nuclei),
        "nuclei_by_type": dict(sorted(Counter(tissue.nuclei.types()).items())),
        "nuclei_file": block.table_path,
        "tissue_share": round(float(tissue.tissue.mean()), 6),
        "slides": [_slide(block, slide) for slide in block.slides],
    }


def section_truth(section: StainedSection) -> dict[str, Any]:
    """What was planted in an immunostained section."""
    source, target = section.landmarks()
    moved_um = np.hypot(*section.offset()) * section.um_per_pixel
    tumour = section.positivity.take(section.nuclei.of_kind(TUMOUR))
    move = section.plan.move
    return {
        "rule": section.plan.rule,
        "nuclei": len(section.nuclei),
        "positive": int(section.positivity.positive.sum()),
        "positivity_index": _figure(section.positivity_index),
        "tumour_positivity_index": _figure(positivity_index(tumour)),
        "h_score": _figure(section.h_score),
        "stained_from_density": STAINED_FROM,
        "stained_share": _figure(float(section.stained_area.mean())),
        "misregistration": {
            "shift_um": [_figure(part) for part in move.shift_um],
            "rotation_degrees": _figure(move.rotation_degrees),
            "deformation_um": _figure(move.deformation_um),
            "mean_um": _figure(float(moved_um.mean())),
            "largest_um": _figure(float(moved_um.max())),
        },
        "landmarks": [
            {"he": [_figure(part) for part in here], "stain": [_figure(part) for part in there]}
            for here, there in zip(source, target, strict=True)
        ],
    }


def _slide(block: Block, slide: StainedSlide) -> dict[str, Any]:
    tissue = block.tissue
    common = {
        "stain": slide.stain,
        "file": slide.path,
        "time": instant(slide.time),
        "scanner": slide.look.scanner,
    }
    if slide.stain == HE:
        return common | {"artefacts": _artefacts(tissue.plan.artefacts, tissue.artefacts)}
    section = tissue.sections[slide.stain]
    return (
        common | {"artefacts": _artefacts(section.plan.artefacts, section.artefacts)} | section_truth(section)
    )


def _artefacts(planted: tuple[Artefact, ...], masks: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    return [
        {
            "kind": artefact.kind,
            "box": _box(masks[artefact.kind]),
            "share": _figure(float(masks[artefact.kind].mean())),
        }
        for artefact in planted
    ]


def _box(mask: np.ndarray) -> list[int]:
    """Left, top, right, bottom of the pixels; no figures where there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def _figure(value: float) -> float | None:
    """Rounded; None where there is nothing to measure."""
    return round(value, 6) if np.isfinite(value) else None
