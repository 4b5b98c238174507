"""Two slide files to a registration on disk: figures, pictures, and the target on the source's grid.

registration.json   maps, errors before and after with n, refused or not, digests, version, seed
displacement.npy    (row, column, 2) float32 micrometres at the nodes, x and y
before.png after.png  checkerboard and structure overlay
warped.ome.tif      the target on the source's grid at the working resolution; none where refused
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from clinimm.core.errors import ConfigError, InputRejected
from clinimm.core.record import digest_bytes, digest_file, digest_json, digest_tree, write_bytes, write_text
from clinimm.provenance import code_version
from clinimm.staining.deformation import IDENTITY, Deformation
from clinimm.staining.landmarks import read_landmarks
from clinimm.staining.picture import BLOCK, Picture, SlidePicture, warp_block
from clinimm.staining.register_gate import MAX_ERROR_UM, ErrorEstimate
from clinimm.staining.register_pair import Registration, register_pictures

RECORD_NAME = "registration.json"
WARPED_NAME = "warped.ome.tif"
#: Pixels along the longer side at the resolution that is chosen where none is given.
_LONGEST = 8192
#: Bytes above which the offsets of a classic TIFF could run out.
_CLASSIC_BYTES = 3 << 30


@dataclass(frozen=True)
class Request:
    """What is to be registered.

    Attributes:
        source, target: slide files, or folders of a DICOM slide.
        out: folder that is made.
        resolution_um: working resolution; None is the finest that both have, at most 8192 pixels long.
        mpp_um: resolution of files that state none.
        max_error_um: 90th percentile of the error above which the pair is refused.
        landmarks: CSV of point pairs, to judge the result.
        seed: see ``register_pictures``.
    """

    source: Path
    target: Path
    out: Path
    resolution_um: float | None = None
    mpp_um: float | None = None
    max_error_um: float = MAX_ERROR_UM
    landmarks: Path | None = None
    seed: int = 0


def register_files(request: Request, say: Callable[[str], None] = lambda _: None) -> Registration:
    """Register two files and write what was found.

    Raises:
        InputRejected: a file cannot be read, states no resolution, or was generated.
        ConfigError: ``out`` is a file.
        DataError: the landmarks cannot be read.
    """
    if request.out.is_file():
        raise ConfigError(f"--out {request.out}: a folder is written, and this is a file.")
    landmarks = None if request.landmarks is None else read_landmarks(request.landmarks)
    with ExitStack() as stack:
        source, target = _opened(request, stack)
        found = register_pictures(
            source,
            target,
            max_error_um=request.max_error_um,
            landmarks=landmarks,
            seed=request.seed,
            say=say,
        )
        request.out.mkdir(parents=True, exist_ok=True)
        for name in (RECORD_NAME, WARPED_NAME):
            (request.out / name).unlink(missing_ok=True)  # nothing of an earlier run is left behind
        outputs = _write_pictures(request.out, source, target, found, say)
        if found.refused is None:
            say("warping")
            _write_warped(request.out / WARPED_NAME, source, target, found.deformation)
            outputs[WARPED_NAME] = digest_file(request.out / WARPED_NAME)
        record = as_record(request, found, outputs)
        write_text(request.out / RECORD_NAME, json.dumps(record, indent=1, sort_keys=True) + "\n")
    return found


def as_record(request: Request, found: Registration, outputs: dict[str, str]) -> dict[str, Any]:
    """``registration.json``: all figures with their n, but no file names: they may name a patient."""
    refused = found.refused
    return {
        "source": {"sha256": _digest(request.source), "rows_columns": list(found.source_shape)},
        "target": {"sha256": _digest(request.target)},
        "landmarks": None if request.landmarks is None else {"sha256": digest_file(request.landmarks)},
        "resolution_um": found.resolution_um,
        "maps": {
            "meaning": "source point (x, y) in um -> target point: matrix @ point + offset + displacement",
            "rigid": asdict(found.rigid),
            "affine": asdict(found.affine),
            "displacement": {"file": "displacement.npy", "spacing_um": found.deformation.spacing_um},
            "least_jacobian": found.least_jacobian,
        },
        "overlap_share": found.overlap_share,
        "moved_um": _figures(found.shift_um),
        "before": _figures(found.before),
        "after": _figures(found.error_um),
        "landmarks_before": _figures(found.landmarks_before),
        "landmarks_after": _figures(found.landmarks_after),
        "max_error_um": request.max_error_um,
        "refused": None if refused is None else _refusal(refused),
        "outputs": outputs,
        "code_version": code_version(),
        "seed": request.seed,
    }


def in_words(found: Registration) -> list[str]:
    """The result in plain sentences."""
    lines = [
        f"moved:  {_sentence(found.shift_um)}",
        f"before: {_sentence(found.before)}",
        f"after:  {_sentence(found.error_um)}",
    ]
    if found.landmarks_before is not None and found.landmarks_after is not None:
        lines += [
            f"landmarks before: {_sentence(found.landmarks_before)}",
            f"landmarks after:  {_sentence(found.landmarks_after)}",
        ]
    if found.refused is None:
        return [*lines, "The pair may be trained on."]
    return [*lines, f"Refused for training, {found.refused}"]


def _opened(request: Request, stack: ExitStack) -> tuple[SlidePicture, SlidePicture]:
    from clinimm.modalities.pathology.resolution import Resolution
    from clinimm.modalities.pathology.slide import open_slide

    given = None if request.mpp_um is None else Resolution.of(request.mpp_um)
    slides = []
    for path, name in ((request.source, "source"), (request.target, "target")):
        if not path.exists():
            raise ConfigError(f"{path}: there is no such file.")
        _refuse_generated(path, name)
        slide = stack.enter_context(open_slide(path, given))
        try:
            slides.append((slide, slide.resolution))
        except InputRejected as refusal:
            raise InputRejected(
                refusal.code, f"the {name} states no resolution (micrometres a pixel)", "give --mpp-um"
            ) from refusal
    native = max(resolution.um_per_pixel for _, resolution in slides)
    longest = max(
        max(slide.dimensions[0] * one.um_per_pixel_x, slide.dimensions[1] * one.um_per_pixel_y)
        for slide, one in slides
    )
    working = request.resolution_um or max(native, longest / _LONGEST)
    return SlidePicture(slides[0][0], working), SlidePicture(slides[1][0], working)


def _refuse_generated(path: Path, name: str) -> None:
    """Law 6: a generated picture is no evidence of where tissue lies, nor may its mark be lost here."""
    from clinimm.modalities.pathology.synthetic import is_synthetic

    if (made := is_synthetic(path)) is not None:
        raise InputRejected(
            "synthetic-input",
            f"the {name} is itself generated ({', '.join(made.marks)})",
            "register real slides",
        )


def _write_pictures(
    out: Path, source: Picture, target: Picture, found: Registration, say: Callable[[str], None]
) -> dict[str, str]:
    from clinimm.staining.register_picture import side_by_side

    stream = io.BytesIO()
    np.save(stream, found.deformation.displacement_um.astype(np.float32), allow_pickle=False)
    contents = {"displacement.npy": stream.getvalue()}
    if found.refused is None or found.refused.code != "no-tissue":
        say("pictures")
        still = Deformation(IDENTITY, 1.0, np.zeros((2, 2, 2)))
        contents["before.png"] = side_by_side(source, target, still)
        contents["after.png"] = side_by_side(source, target, found.deformation)
    for name, content in contents.items():
        write_bytes(out / name, content)
    return {name: digest_bytes(content) for name, content in contents.items()}


def _write_warped(path: Path, source: Picture, target: Picture, deformation: Deformation) -> None:
    """Tile by tile, so that neither slide is ever in memory as a whole."""
    import tifffile

    rows, columns = source.shape
    partial = path.with_name(f".{path.name}.partial")
    per_centimetre = 10_000 / source.resolution_um
    with tifffile.TiffWriter(partial, ome=True, bigtiff=rows * columns * 3 > _CLASSIC_BYTES) as writer:
        writer.write(
            _tiles(source, target, deformation),
            shape=(rows, columns, 3),
            dtype=np.uint8,
            tile=(BLOCK, BLOCK),
            photometric="rgb",
            compression="zlib",
            resolution=(per_centimetre, per_centimetre),
            resolutionunit="CENTIMETER",
            metadata={
                "axes": "YXS",
                "PhysicalSizeX": source.resolution_um,
                "PhysicalSizeY": source.resolution_um,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeYUnit": "µm",
            },
        )
    partial.replace(path)


def _tiles(
    source: Picture, target: Picture, deformation: Deformation
) -> Iterator[UInt8[np.ndarray, "row column 3"]]:
    rows, columns = source.shape
    for top in range(0, rows, BLOCK):
        for left in range(0, columns, BLOCK):
            block = (top, left, BLOCK, BLOCK)
            yield warp_block(target, deformation, block, source.resolution_um)[0]


def _digest(path: Path) -> str:
    return digest_file(path) if path.is_file() else digest_json(digest_tree(path))


def _figures(error: ErrorEstimate | None) -> dict[str, Any] | None:
    return None if error is None else {**asdict(error), "judged_share": error.judged_share}


def _refusal(refused: InputRejected) -> dict[str, str]:
    return {"code": refused.code, "reason": refused.reason, "remedy": refused.remedy}


def _sentence(error: ErrorEstimate) -> str:
    if error.p50_um is None or error.p90_um is None:
        return f"too few places could be judged ({error.judged} of {error.places} with structure)"
    return (
        f"half of the places within {error.p50_um:.2f} µm, 90 % within {error.p90_um:.2f} µm "
        f"({error.scale}; n = {error.judged} of {error.places} places)"
    )
