"""Stain pairs as public sets hold them: panels side by side in one file, or a file a stain.

Nothing here is registered: published pairs that are called registered are pixels apart. What comes out
goes through ``staining.register_images``, which moves the targets onto the source or refuses them.

Two layouts are read:

* six square panels in a row: IHC, haematoxylin, DAPI, Lap2, marker, segmentation (Ghahremani et al.,
  "Deep learning-inferred multiplex immunofluorescence", Nature Machine Intelligence 2022);
* ``NAME_STAIN_HE`` beside ``NAME_STAIN_IHC``, an H&E and an immunostained section of the same block,
  the second warped onto the first by somebody and white where the warp has nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

from clinimm.core.errors import DataError, InputRejected, Refusal

Rgb = UInt8[np.ndarray, "row column 3"]
Mask = Bool[np.ndarray, "row column"]

#: The panels of a row, from left to right; the last one is a drawing and no stain.
PANELS = ("IHC", "HEMATOXYLIN", "DAPI", "LAP2", "MARKER", "SEGMENTATION")
SOURCE_SUFFIX, TARGET_SUFFIX = "_HE", "_IHC"
#: Micrometres a pixel that are taken, for no file of either layout states them: panels are scanned at
#: 40 x, where a drawn nucleus of 28 pixels is 7 µm wide; the warped sections are a twentieth of a scan of
#: 0.174 µm, from memory of the set's description. Whatever is said in µm of such pairs hangs on these.
PANELS_UM, HE_IHC_UM = 0.25, 3.5
_ENDINGS = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
_WHITE = 255
#: A white patch at the image's edge that is smaller than this share of it is glass, not a gap.
_LEAST_GAP = 1e-3


@dataclass(frozen=True)
class StainImages:
    """One place in its source stain and in others, as they came: not registered.

    Attributes:
        subject: whose it is, as far as the file names tell: a number, never a name.
        specimen: the place, likewise.
        source_stain: what the source is stained with.
        source: (row, column, 3).
        targets: stain -> (row, column, 3).
        known: stain -> where the target's file holds pixels.
    """

    subject: str
    specimen: str
    source_stain: str
    source: Rgb
    targets: Mapping[str, Rgb]
    known: Mapping[str, Mask]


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        images: one a place, in the order of the files' names.
        refusals: files that do not fit the layout, with the reason.
    """

    images: tuple[StainImages, ...]
    refusals: tuple[Refusal, ...]


def read_panels(folder: Path) -> Found:
    """Files with six square panels in a row; each file is taken as a subject of its own.

    Args:
        folder: holds the image files; folders below it are not looked at.

    Raises:
        DataError: the folder is absent, or no file in it has the layout.

    Example:
        >>> found = read_panels(folder)                     # doctest: +SKIP
        >>> found.images[0].targets["DAPI"].shape            # doctest: +SKIP
        (512, 512, 3)
    """
    return _collect(enumerate(_files(folder)), _panels, folder, f"{len(PANELS)} square panels in a row")


def read_he_ihc(folder: Path) -> Found:
    """Pairs of files ``NAME_STAIN_HE`` and ``NAME_STAIN_IHC``; what shares NAME is one subject.

    Stains that lie beside the same H&E image become targets of one source.

    Args:
        folder: holds the image files; folders below it are not looked at.

    Raises:
        DataError: the folder is absent, or no file in it has the layout.
    """
    names: dict[str, list[Path]] = {}
    for path in _files(folder):
        if path.stem.endswith(SOURCE_SUFFIX):
            names.setdefault(path.stem.removesuffix(SOURCE_SUFFIX).rpartition("_")[0], []).append(path)
    layout = f"NAME_STAIN{SOURCE_SUFFIX} beside NAME_STAIN{TARGET_SUFFIX}"
    return _merged(_collect(_numbered(names.values()), _he_ihc, folder, layout))


def warp_gap(rgb: Rgb) -> Mask:
    """Where a warped image has no pixels: pure white that reaches the image's edge."""
    labels, count = ndimage.label((rgb == _WHITE).all(axis=-1))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    at_edge = np.zeros(count + 1, dtype=bool)
    at_edge[rim] = True
    at_edge[0] = False
    gap: Mask = (at_edge & (sizes >= _LEAST_GAP * labels.size))[labels]
    return gap


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the one that holds the stained images.")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS)


def _numbered(groups: Iterable[list[Path]]) -> list[tuple[int, Path]]:
    return [(number, path) for number, group in enumerate(groups) for path in group]


def _collect(
    files: Iterable[tuple[int, Path]],
    read: Callable[[Path, int], StainImages],
    folder: Path,
    layout: str,
) -> Found:
    images, refusals = [], []
    for number, path in files:
        try:
            images.append(read(path, number))
        except InputRejected as refused:
            refusals.append(Refusal(path.name, "stain pair", refused.code, refused.reason, refused.remedy))
    if not images:
        why = f"; the first refusal: {refusals[0].reason}" if refusals else ""
        raise DataError(f"{folder} holds no image with the layout {layout}{why}.")
    return Found(tuple(images), tuple(refusals))


def _panels(path: Path, number: int) -> StainImages:
    row = _read(path)
    height, width = row.shape[:2]
    if width != len(PANELS) * height:
        raise InputRejected(
            "not-panels",
            f"the image has {height} x {width} pixels; {len(PANELS)} square panels in a row have "
            f"{height} x {len(PANELS) * height}",
            "leave the file out, or cut it into panels",
        )
    panels = dict(zip(PANELS, np.split(row, len(PANELS), axis=1), strict=True))
    targets = {name: np.ascontiguousarray(panels[name]) for name in PANELS[1:-1]}
    everywhere = np.ones((height, height), dtype=bool)
    return StainImages(
        subject=f"subject {number + 1}",
        specimen="tile",
        source_stain=PANELS[0],
        source=np.ascontiguousarray(panels[PANELS[0]]),
        targets=targets,
        known=dict.fromkeys(targets, everywhere),
    )


def _he_ihc(path: Path, number: int) -> StainImages:
    name = path.stem.removesuffix(SOURCE_SUFFIX)
    partners = [path.with_name(f"{name}{TARGET_SUFFIX}{ending}") for ending in (path.suffix, *_ENDINGS)]
    partner = next((one for one in partners if one.is_file()), None)
    if partner is None:
        raise InputRejected(
            "no-partner", f"there is no {name}{TARGET_SUFFIX} beside it", "add the stained section's image"
        )
    target, stain = _read(partner), name.rpartition("_")[2].upper()
    return StainImages(
        subject=f"subject {number + 1}",
        specimen=f"section {stain}",
        source_stain="HE",
        source=_read(path),
        targets={stain: target},
        known={stain: ~warp_gap(target)},
    )


def _merged(found: Found) -> Found:
    """Pairs of one subject with the same source as one, with all their targets."""
    kept: list[StainImages] = []
    for one in found.images:
        place = next((index for index, other in enumerate(kept) if _same_source(one, other)), None)
        if place is None:
            kept.append(one)
            continue
        other = kept[place]
        kept[place] = StainImages(
            subject=other.subject,
            specimen="section",
            source_stain=other.source_stain,
            source=other.source,
            targets={**other.targets, **one.targets},
            known={**other.known, **one.known},
        )
    return Found(tuple(kept), found.refusals)


def _same_source(one: StainImages, other: StainImages) -> bool:
    return one.subject == other.subject and np.array_equal(one.source, other.source)


def _read(path: Path) -> Rgb:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise InputRejected(
            "unreadable", f"{path.name} cannot be decoded: {error}", "get the file anew from its source"
        ) from error
