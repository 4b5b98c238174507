"""Images of one place in several stains, in memory, made into a pair: registered, or refused by stain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from clinimm.core.errors import InputRejected, Refusal
from clinimm.datasets.stain_pairs import StainImages
from clinimm.staining.pairs import StainPair
from clinimm.staining.register_gate import MAX_ERROR_UM, ErrorEstimate
from clinimm.staining.register_pair import register


@dataclass(frozen=True)
class RegisteredImages:
    """What became of the images of one place.

    Attributes:
        pair: with the targets that lie well enough; None where none does.
        before, after: stain -> registration error, micrometres; of refused stains too.
        refusals: the stains that were left out, with the reason.
    """

    pair: StainPair | None
    before: Mapping[str, ErrorEstimate]
    after: Mapping[str, ErrorEstimate]
    refusals: tuple[Refusal, ...]


def register_images(
    images: StainImages,
    resolution_um: float,
    max_error_um: float = MAX_ERROR_UM,
    magnified: float = 1.0,
    seed: int = 0,
) -> RegisteredImages:
    """Move every target onto the source.

    Args:
        images: as they came.
        resolution_um: micrometres a pixel of all of them.
        max_error_um: above this 90th percentile of the error a stain is refused.
        magnified: as how many times as large the registration sees the tissue. Its windows have fixed
            sides in micrometres and do not fit on a tile of a tenth of a millimetre; seen at twice
            its size, nuclei are still well above its finest structure. Errors come out in true
            micrometres; only a refusal's words are in magnified ones.
        seed: of the registration.
    """
    before: dict[str, ErrorEstimate] = {}
    after: dict[str, ErrorEstimate] = {}
    refusals: list[Refusal] = []
    targets, valid = {}, np.ones(images.source.shape[:2], dtype=bool)
    for stain, target in images.targets.items():
        found = register(
            images.source,
            target,
            resolution_um * magnified,
            max_error_um=max_error_um * magnified,
            seed=seed,
        )
        before[stain], after[stain] = _true(found.before, magnified), _true(found.error_um, magnified)
        if found.refused is not None:
            refusals.append(_refusal(images, stain, found.refused))
            continue
        targets[stain], inside = found.warp(target)
        held, _ = found.warp(_as_image(images.known[stain]), nearest=True)
        valid &= inside & (held[..., 0] > 0)
    return RegisteredImages(_pair(images, targets, valid, resolution_um), before, after, tuple(refusals))


def as_they_lie(
    images: StainImages, resolution_um: float, magnified: float = 1.0, seed: int = 0
) -> RegisteredImages:
    """The pair corner on corner, for images that somebody else has registered; its error is measured only.

    Args:
        images: as they came.
        resolution_um, magnified, seed: as in ``register_images``.
    """
    error: dict[str, ErrorEstimate] = {}
    refusals: list[Refusal] = []
    targets, valid = {}, np.ones(images.source.shape[:2], dtype=bool)
    for stain, target in images.targets.items():
        found = register(images.source, target, resolution_um * magnified, seed=seed)
        error[stain] = _true(found.before, magnified)
        if target.shape != images.source.shape:
            reason = f"its image is {target.shape[:2]} pixels, the source {images.source.shape[:2]}"
            refused = InputRejected("other-size", reason, "register the pair")
            refusals.append(_refusal(images, stain, refused))
            continue
        targets[stain] = target
        valid &= images.known[stain]
    return RegisteredImages(_pair(images, targets, valid, resolution_um), error, error, tuple(refusals))


def _pair(
    images: StainImages,
    targets: Mapping[str, np.ndarray],
    valid: Bool[np.ndarray, "row column"],
    resolution_um: float,
) -> StainPair | None:
    if not targets:
        return None
    return StainPair(images.subject, images.specimen, images.source, targets, valid, resolution_um)


def _refusal(images: StainImages, stain: str, refused: InputRejected) -> Refusal:
    item = f"{images.subject}/{images.specimen}"
    return Refusal(item, stain, refused.code, refused.reason, refused.remedy)


def _true(error: ErrorEstimate, magnified: float) -> ErrorEstimate:
    p50, p90 = (None if value is None else value / magnified for value in (error.p50_um, error.p90_um))
    return replace(error, p50_um=p50, p90_um=p90)


def _as_image(mask: Bool[np.ndarray, "row column"]) -> np.ndarray:
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
