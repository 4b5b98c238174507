"""From a pair of slides to registered regions: open, register, choose where, cut."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from clinimm.config import StainingConfig
from clinimm.core.errors import InputRejected, Refusal
from clinimm.modalities.pathology.slide import open_slide
from clinimm.modalities.pathology.synthetic import is_synthetic
from clinimm.modalities.pathology.tissue import tissue_mask
from clinimm.staining.deformation import IDENTITY, Deformation
from clinimm.staining.pair_store import Region
from clinimm.staining.pairs import StainPair
from clinimm.staining.picture import SlidePicture, warp_block
from clinimm.staining.register_gate import ErrorEstimate
from clinimm.staining.register_pair import Registration, register_pictures

#: Rows and columns of a region are multiples of this: the coarsest cell of six levels.
MULTIPLE = 32
_MEASURED = ("p50_um", "p90_um", "judged", "places", "scale")
#: A row of ``encode/pairs/registration.parquet``.
ERROR_COLUMNS = (
    "subject_id",
    "specimen",
    "stain",
    *(f"before_{what}" for what in _MEASURED),
    *(f"after_{what}" for what in _MEASURED),
    "refused",
)
_OVERVIEW = 1024
_LEAST_TISSUE = 0.2
_LEAST_VALID = 0.5


@dataclass(frozen=True)
class Files:
    """A slide pair as files.

    Attributes:
        subject_id, specimen: whose, and which block.
        source: path and digest.
        targets: stain -> path and digest.
    """

    subject_id: str
    specimen: str
    source: tuple[Path, str]
    targets: Mapping[str, tuple[Path, str]]


@dataclass(frozen=True)
class Made:
    """What a pair of slides gave.

    Attributes:
        regions: registered regions, most tissue first.
        errors: a row a stain: registration error before and after, and whether it was refused.
        refusals: slides that could not be used, with the reason.
    """

    regions: tuple[Region, ...] = ()
    errors: tuple[dict[str, object], ...] = ()
    refusals: tuple[Refusal, ...] = ()


@dataclass
class _Found:
    regions: list[Region] = field(default_factory=list)
    errors: list[dict[str, object]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def make_regions(files: Files, config: StainingConfig, seed: int = 0) -> Made:
    """Register a pair and cut its regions; what cannot be used is refused and listed.

    Args:
        files: where the slides lie.
        config: resolution, regions and the largest registration error.
        seed: of the registration.
    """
    found = _Found()
    try:
        _refuse_generated(files.source[0], config)
        with ExitStack() as stack:
            slide = stack.enter_context(open_slide(files.source[0]))
            source = SlidePicture(slide, config.resolution_um)
            moved = _registered(files, source, config, seed, stack, found)
            if moved:
                _cut(files, source, moved, config, found)
    except InputRejected as refusal:
        found.refusals.append(_refusal(files.source[1], "source", refusal))
    return Made(tuple(found.regions), tuple(found.errors), tuple(found.refusals))


@dataclass(frozen=True)
class _Moved:
    picture: SlidePicture
    deformation: Deformation
    error_um: float | None


def _registered(
    files: Files,
    source: SlidePicture,
    config: StainingConfig,
    seed: int,
    stack: ExitStack,
    found: _Found,
) -> dict[str, _Moved]:
    """The targets that lie on the source well enough."""
    moved = {}
    for stain, (path, digest) in files.targets.items():
        try:
            _refuse_generated(path, config)
            picture = SlidePicture(stack.enter_context(open_slide(path)), config.resolution_um)
            if not config.register_pairs:
                moved[stain] = _Moved(picture, _as_they_lie(source), None)
                continue
            registration = register_pictures(source, picture, max_error_um=config.largest_error_um, seed=seed)
            found.errors.append(_error_row(files, stain, registration))
            if registration.refused is not None:
                raise registration.refused
            moved[stain] = _Moved(picture, registration.deformation, registration.error_um.p50_um)
        except InputRejected as refusal:
            found.refusals.append(_refusal(digest, stain, refusal))
    return moved


def _as_they_lie(source: SlidePicture) -> Deformation:
    """Corner on corner, for pairs that somebody else has registered."""
    extent = (source.shape[1] * source.resolution_um, source.shape[0] * source.resolution_um)
    return Deformation.still(IDENTITY, extent, max(extent))


def _cut(
    files: Files, source: SlidePicture, moved: Mapping[str, _Moved], config: StainingConfig, found: _Found
) -> None:
    scale = config.resolution_um / source.slide.mpp_um
    synthetic = config.allow_synthetic_input and any(
        is_synthetic(path) is not None for path, _ in (files.source, *files.targets.values())
    )
    error = max((one.error_um for one in moved.values() if one.error_um is not None), default=None)
    for top, left, side in choose_places(source, config.regions, config.region_pixels):
        targets, valid = {}, np.ones((side, side), dtype=bool)
        for stain, one in moved.items():
            block = (top, left, side, side)
            image, inside = warp_block(one.picture, one.deformation, block, config.resolution_um)
            targets[stain], valid = image, valid & inside
        if valid.mean() < _LEAST_VALID:
            continue
        pair = StainPair(
            files.subject_id,
            files.specimen,
            source.read(top, left, side, side),
            targets,
            valid,
            config.resolution_um,
            synthetic,
        )
        place = (round(left * scale), round(top * scale), round(side * scale))
        found.regions.append(Region(pair, *place, files.source[1], error))


def choose_places(source: SlidePicture, regions: int, side: int) -> list[tuple[int, int, int]]:
    """The places on a grid with most tissue: top, left and side, pixels at the working resolution.

    Raises:
        InputRejected: ``too-small`` or ``no-tissue``.
    """
    rows, columns = source.shape
    side = min(side, rows, columns) // MULTIPLE * MULTIPLE
    if not side:
        raise InputRejected(
            "too-small",
            f"the slide has {rows} x {columns} pixels at the working resolution",
            "use a finer staining.resolution_um, or leave the slide out",
        )
    overview = source.overview(_OVERVIEW)
    share = _tissue_shares(tissue_mask(overview), source.shape, side)
    order = np.argsort(-share, axis=None, kind="stable")[:regions]
    places = [divmod(int(index), share.shape[1]) for index in order]
    kept = [
        (row * side, column * side, side) for row, column in places if share[row, column] >= _LEAST_TISSUE
    ]
    if not kept:
        raise InputRejected(
            "no-tissue", "no region of the slide holds enough tissue", "check the slide, or leave it out"
        )
    return kept


def _tissue_shares(tissue: Bool[np.ndarray, "row column"], shape: tuple[int, int], side: int) -> np.ndarray:
    rows, columns = shape[0] // side, shape[1] // side
    shares = np.zeros((rows, columns))
    down, right = tissue.shape[0] / shape[0] * side, tissue.shape[1] / shape[1] * side
    for row in range(rows):
        for column in range(columns):
            part = tissue[
                int(row * down) : max(int((row + 1) * down), int(row * down) + 1),
                int(column * right) : max(int((column + 1) * right), int(column * right) + 1),
            ]
            shares[row, column] = part.mean()
    return shares


def _refuse_generated(path: Path, config: StainingConfig) -> None:
    """Law 6: what was made is not learned from, unless that is meant.

    Raises:
        InputRejected: ``synthetic-image``.
    """
    made = None if config.allow_synthetic_input else is_synthetic(path)
    if made is not None:
        raise InputRejected(
            "synthetic-image",
            "the slide says that it was generated",
            "leave it out, or set staining.allow_synthetic_input where that is meant",
        )


def _refusal(digest: str, item: str, refusal: InputRejected) -> Refusal:
    return Refusal(digest, item, refusal.code, refusal.reason, refusal.remedy)


def _error_row(files: Files, stain: str, registration: Registration) -> dict[str, object]:
    refused = registration.refused
    return {
        "subject_id": files.subject_id,
        "specimen": files.specimen,
        "stain": stain,
        **_figures("before", registration.before),
        **_figures("after", registration.error_um),
        "refused": None if refused is None else refused.code,
    }


def _figures(when: str, error: ErrorEstimate) -> dict[str, object]:
    return {
        f"{when}_p50_um": error.p50_um,
        f"{when}_p90_um": error.p90_um,
        f"{when}_judged": error.judged,
        f"{when}_places": error.places,
        f"{when}_scale": error.scale,
    }
