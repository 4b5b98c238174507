"""A patient's films, series and slides, as they were on record at the index time (law 1)."""

from __future__ import annotations

import io
import json
import mmap
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from clinimm.cohort.stage import read_spec
from clinimm.cohort.window import visible
from clinimm.core.errors import CliniMMError, InputRejected
from clinimm.modalities.pathology.slide import Slide
from clinimm.report.pictures import open_pixels
from clinimm.serve.catalogue import ServedRun
from clinimm.serve.deepzoom import Pyramid, as_jpeg, pyramid_of, read_tile
from clinimm.serve.errors import Refused, not_found
from clinimm.sources.base import Opener

_SERIES_UID, _INSTANCE_NUMBER, _POSITION, _ORIENTATION = 0x0020000E, 0x00200013, 0x00200032, 0x00200037
_OPEN_SLIDES = 8
_KNOWN_STUDIES = 64
_NAME_DIGITS = 16
_Named = TypeVar("_Named", "Series", "SlideFile")


@dataclass(frozen=True)
class Slice:
    """One picture of a series: a frame of a file."""

    uri: str
    frame: int


@dataclass(frozen=True)
class Series:
    """Pictures to scroll through, in anatomical order where the files state it.

    Attributes:
        name: its address on this server: the start of the first file's SHA-256.
        title: kind, body part and view.
        time: when it became available, UTC.
        slices: in order.
        size: width and height, pixels.
    """

    name: str
    title: str
    time: datetime
    slices: tuple[Slice, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class SlideFile:
    """A slide.

    Attributes:
        name: its address on this server: the start of the file's SHA-256.
        title: the stain.
        time: when it became available, UTC.
        uri: sealed.
    """

    name: str
    title: str
    time: datetime
    uri: str


@dataclass(frozen=True)
class Study:
    """Everything that a patient has to look at."""

    series: tuple[Series, ...]
    slides: tuple[SlideFile, ...]

    def find_series(self, name: str) -> Series:
        """A series by its address.

        Raises:
            Refused: there is none.
        """
        return _found(self.series, name, "series")

    def find_slide(self, name: str) -> SlideFile:
        """A slide by its address.

        Raises:
            Refused: there is none.
        """
        return _found(self.slides, name, "slide")


class Pictures:
    """Finds and decodes pictures; keeps a few slides open, because tiles come in swarms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._studies: OrderedDict[tuple[str, str], Study] = OrderedDict()
        self._slides: OrderedDict[str, Slide] = OrderedDict()
        self._busy: dict[str, threading.Lock] = {}

    def study(self, run: ServedRun, subject_id: str) -> Study:
        """A patient's pictures; those that cannot be opened here are left out.

        Raises:
            Refused: the run has no answer for this patient, or its files cannot be opened here.
        """
        answer, key = run.answer(subject_id), (run.manifest.signature.value, subject_id)
        with self._lock:
            if key in self._studies:
                self._studies.move_to_end(key)
                return self._studies[key]
        events = visible_pictures(run, subject_id, answer["index_time"])
        study = Study(_series(events, _opener(run)) if len(events) else (), _slides(events))
        with self._lock:
            self._studies[key] = study
            while len(self._studies) > _KNOWN_STUDIES:
                self._studies.popitem(last=False)
        return study

    def slice_png(self, run: ServedRun, series: Series, index: int) -> bytes:
        """A picture of a series, 8 bits, as the file's own window shows it.

        Raises:
            Refused: there is no such picture, or it cannot be decoded.
        """
        from clinimm.modalities.radiology.pixels import load_frame

        if not 0 <= index < len(series.slices):
            raise not_found("picture")
        one = series.slices[index]
        try:
            values = load_frame(_mapped(_opener(run), one.uri), one.frame).values[0]
        except (CliniMMError, OSError, IndexError) as error:
            raise _unreadable(error) from error
        return _png(np.round(values * 255).astype(np.uint8))

    def pyramid(self, run: ServedRun, slide: SlideFile) -> Pyramid:
        """The levels of a slide."""
        with self._use(run, slide) as opened:
            return pyramid_of(opened.slide)

    def tile(self, run: ServedRun, slide: SlideFile, level: int, column: int, row: int) -> bytes:
        """A tile of a slide as JPEG.

        Raises:
            Refused: there is no such tile, or it cannot be decoded.
        """
        with self._use(run, slide) as opened:
            try:
                return as_jpeg(read_tile(opened.slide, level, column, row))
            except InputRejected as error:
                raise _unreadable(error) from error

    def close(self) -> None:
        """Give all slides back."""
        with self._lock:
            for slide in self._slides.values():
                slide.close()
            self._slides.clear()

    def _use(self, run: ServedRun, slide: SlideFile) -> _InUse:
        """A slide that nobody else reads meanwhile: readers of file formats share a position."""
        with self._lock:
            own = self._busy.setdefault(slide.uri, threading.Lock())
        stack = ExitStack()
        stack.enter_context(own)
        try:
            return _InUse(self._opened(run, slide), stack)
        except BaseException:
            stack.close()
            raise

    def _opened(self, run: ServedRun, slide: SlideFile) -> Slide:
        with self._lock:
            if slide.uri in self._slides:
                self._slides.move_to_end(slide.uri)
                return self._slides[slide.uri]
        try:
            opened = Slide(_opener(run).local_path(slide.uri))
        except (CliniMMError, OSError) as error:
            raise _unreadable(error) from error
        with self._lock:
            self._slides[slide.uri] = opened
            self._close_surplus()
        return opened

    def _close_surplus(self) -> None:
        """Close what was used longest ago, unless somebody reads it right now."""
        for uri in list(self._slides)[: max(0, len(self._slides) - _OPEN_SLIDES)]:
            if self._busy[uri].acquire(blocking=False):
                try:
                    self._slides.pop(uri).close()
                finally:
                    self._busy[uri].release()


@dataclass(frozen=True)
class _InUse:
    """A slide that is held until the block ends."""

    slide: Slide
    held: ExitStack

    def __enter__(self) -> _InUse:
        return self

    def __exit__(self, *unused: object) -> None:
        self.held.close()


def visible_pictures(run: ServedRun, subject_id: str, index_time: pd.Timestamp) -> pd.DataFrame:
    """The subject's events that point at a file and were on record at the index time."""
    return _with_files(visible_events(run, subject_id, index_time))


def visible_events(run: ServedRun, subject_id: str, index_time: pd.Timestamp) -> pd.DataFrame:
    """The subject's events that a model may see (``cohort/window.py``)."""
    path = run.workspace.need("ingest", "events.parquet")
    events = pd.read_parquet(path, filters=[("subject_id", "==", subject_id)])
    spec = read_spec(run.workspace.need("cohort", "spec.json").parent)
    member = pd.DataFrame({"subject_id": [subject_id], "index_time": [index_time]})
    return pd.concat([visible(events, member, spec, name) for name in spec.inputs], ignore_index=True)


def _with_files(events: pd.DataFrame) -> pd.DataFrame:
    return events[events["uri"].notna() & events["digest"].notna()].reset_index(drop=True)


def _slides(events: pd.DataFrame) -> tuple[SlideFile, ...]:
    rows = events[events["modality"] == "pathology"]
    return tuple(
        SlideFile(
            str(row["digest"])[:_NAME_DIGITS],
            str(row["code"]).partition("//")[2] or "slide",
            row["time"].to_pydatetime(),
            str(row["uri"]),
        )
        for row in rows.to_dict("records")
    )


def _series(events: pd.DataFrame, opener: Opener) -> tuple[Series, ...]:
    """Files that state the same series together; a file that states none is one of its own."""
    groups: dict[str, list[tuple[tuple[float, ...], Mapping[str, Any]]]] = {}
    for row in events[events["modality"] == "radiology"].to_dict("records"):
        named = {str(key): value for key, value in row.items()}
        try:
            series, place = _placed(_mapped(opener, str(named["uri"])))
        except (CliniMMError, OSError):
            series, place = None, (0.0,)
        groups.setdefault(series or str(named["digest"]), []).append((place, named))
    found = [
        _one_series([row for _, row in sorted(rows, key=lambda one: one[0])]) for rows in groups.values()
    ]
    return tuple(sorted(found, key=lambda one: (one.time, one.name)))


def _mapped(opener: Opener, uri: str) -> mmap.mmap:
    """A file's bytes, of which only those that are looked at are read; an empty file is an ``OSError``."""
    with opener.local_path(uri).open("rb") as stream:
        try:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise OSError("the file is empty") from error


def _placed(data: mmap.mmap) -> tuple[str | None, tuple[float, ...]]:
    """The series that a file belongs to, and its place in it: along the normal, else its number."""
    from clinimm.modalities.dicom_header import read_header
    from clinimm.modalities.dicom_values import object_uid

    header = read_header(data)
    number = header.decimals(_INSTANCE_NUMBER) or (0.0,)
    position, axes = header.decimals(_POSITION), header.decimals(_ORIENTATION)
    if position is None or axes is None or len(position) != 3 or len(axes) != 6:
        return object_uid(header, _SERIES_UID), (0.0, number[0])
    along = float(np.dot(np.cross(axes[:3], axes[3:]), position))
    return object_uid(header, _SERIES_UID), (along, number[0])


def _one_series(rows: list[Mapping[str, Any]]) -> Series:
    facts = json.loads(rows[0]["attributes"]) if isinstance(rows[0]["attributes"], str) else {}
    slices = []
    for row in rows:
        known = json.loads(row["attributes"]) if isinstance(row["attributes"], str) else {}
        slices += [Slice(str(row["uri"]), frame) for frame in range(int(known.get("frames") or 1))]
    words = [str(facts.get(name) or "") for name in ("dicom_modality", "body_part", "view")]
    return Series(
        str(rows[0]["digest"])[:_NAME_DIGITS],
        " ".join(word for word in words if word) or "image",
        max(row["time"] for row in rows).to_pydatetime(),
        tuple(slices),
        (int(facts.get("columns") or 0), int(facts.get("rows") or 0)),
    )


def _opener(run: ServedRun) -> Opener:
    opener = open_pixels(run.workspace)
    if isinstance(opener, str):
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "files-unavailable",
            "The files of this run cannot be opened here: its pseudonym key or its sources are missing.",
        )
    return opener


def _unreadable(error: Exception) -> Refused:
    """A picture that cannot be shown, in words that tell of no path."""
    why = f"{error.code}: {error.reason}" if isinstance(error, InputRejected) else "the file cannot be read"
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "picture-unreadable", f"This cannot be shown: {why}.")


def _found(items: tuple[_Named, ...], name: str, what: str) -> _Named:
    for item in items:
        if item.name == name:
            return item
    raise not_found(what)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    Image.fromarray(shown).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
