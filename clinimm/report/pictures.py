"""Films and slides as small pictures inside the page; where one cannot be shown, the reason."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clinimm.core.errors import CliniMMError
from clinimm.report.page import data_uri

if TYPE_CHECKING:
    from clinimm.sources.base import Opener
    from clinimm.workspace import Workspace


@dataclass(frozen=True)
class Shown:
    """A picture for the page, or why there is none.

    Attributes:
        uri: ``data:`` address of the picture; None where it cannot be shown.
        size: width and height of the original in pixels; attribution boxes count in these.
        reason: why it cannot be shown, in words without a path; None where it can.
        frames: how many the file has.
        origin: name and value of what identifies it in the archive, such as the series' UID.
    """

    uri: str | None
    size: tuple[float, float]
    reason: str | None
    origin: tuple[tuple[str, str], ...] = ()
    frames: int = 1


_SERIES_UID = 0x0020000E


def open_pixels(workspace: Workspace) -> Opener | str:
    """What finds the bytes behind a sealed uri, or why it cannot."""
    from clinimm.core.pseudonym import load_pseudonymiser
    from clinimm.sources import build_sources
    from clinimm.sources.base import Opener

    try:
        key = load_pseudonymiser(workspace.config.ingest.pseudonym_key_file)
        return Opener(build_sources(workspace.config), key)
    except CliniMMError as error:
        return str(error)


def show(
    opener: Opener | str, event: Mapping[str, Any] | None, kind: str, side: int, frame: int | None = None
) -> Shown:
    """The picture behind an event, its longer side at most ``side`` pixels.

    A page is written whatever happens to its pictures: a key that is not here, a file that moved
    or a package that is not installed becomes a sentence on the page.

    Args:
        opener: from ``open_pixels``.
        event: row of ``events.parquet``.
        kind: ``pixels`` for a film, ``tile`` for a slide.
        side: longest side, pixels.
        frame: which frame of a film, from 0; None takes the middle one.
    """
    if isinstance(opener, str):
        return _unseen(f"the files cannot be opened: {opener}")
    if event is None or not isinstance(event.get("uri"), str):
        return _unseen("this run holds no locator for the file.")
    try:
        origin: tuple[tuple[str, str], ...] = ()
        if kind == "tile":
            (pixels, size), frames = _slide(opener, event, side), 1
        else:
            pixels, size, frames = _film(opener, event, frame)
            origin = _origin(opener, event)
    except CliniMMError as error:
        return _unseen(f"the file cannot be shown: {error}")
    except IndexError:
        return _unseen(f"the file has no frame {(frame or 0) + 1}.")
    except ModuleNotFoundError as error:
        return _unseen(f"{error.name} is not installed here, so the file cannot be read.")
    except OSError as error:
        return _unseen(f"the file is not where ingest found it: {error.strerror or 'it cannot be read'}.")
    content = _reduced(pixels, side)
    uri = data_uri(_jpeg(content), "image/jpeg") if kind == "tile" else data_uri(_png(content), "image/png")
    return Shown(uri, size, None, origin, frames)


def _film(
    opener: Opener, event: Mapping[str, Any], frame: int | None
) -> tuple[np.ndarray, tuple[float, float], int]:
    """The film as the file's own window shows it, 8 bits, its size, and how many frames the file has.

    Raises:
        IndexError: the file has no such frame.
    """
    from clinimm.modalities.radiology.pixels import load_frame, load_pixels

    content = opener.read(str(event["uri"]))
    image = load_pixels(content) if frame is None else load_frame(content, frame)
    pixels = np.round(image.values[0] * 255).astype(np.uint8)
    height, width, channels = pixels.shape
    size = (float(width), float(height))
    return (pixels[..., 0] if channels == 1 else pixels), size, image.total_frames


def _origin(opener: Opener, event: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Series and instance UID as the file states them (PS3.3 C.7.3.1, C.12.1)."""
    from clinimm.modalities.dicom_header import read_header
    from clinimm.modalities.dicom_values import object_uid

    header = read_header(opener.read(str(event["uri"])))
    known = (("Series", object_uid(header, _SERIES_UID)), ("Instance", object_uid(header)))
    return tuple((name, uid or "not stated in the file") for name, uid in known)


def _slide(opener: Opener, event: Mapping[str, Any], side: int) -> tuple[np.ndarray, tuple[float, float]]:
    """A thumbnail, and the size of level 0."""
    from clinimm.modalities.pathology.slide import Slide

    with Slide(opener.local_path(str(event["uri"]))) as slide:
        width, height = slide.dimensions
        return slide.thumbnail(side), (float(width), float(height))


def _reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """(row, column[, 3]) uint8 with its longer side at most ``side``."""
    from PIL import Image

    image = Image.fromarray(pixels)
    scale = side / max(image.size)
    if scale < 1:
        width, height = (max(1, round(edge * scale)) for edge in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def _jpeg(pixels: np.ndarray) -> bytes:
    """For a slide's thumbnail, which shows where tiles lie and is a tenth of the PNG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=85)
    return stream.getvalue()


def _unseen(reason: str) -> Shown:
    return Shown(None, (0.0, 0.0), reason)
