"""Pictures decoded for the browser: slices as they are stored, slides tile by tile."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus

import numpy as np

from clinimm.core.errors import CliniMMError, InputRejected
from clinimm.modalities.pathology.slide import Slide
from clinimm.report.pictures import open_pixels
from clinimm.serve.catalogue import ServedRun
from clinimm.serve.deepzoom import Pyramid, as_jpeg, pyramid_of, read_tile
from clinimm.serve.errors import Refused, not_found
from clinimm.serve.study import Series, SlideFile, Study, mapped, read_study
from clinimm.sources.base import Opener

_OPEN_SLIDES = 8
_KNOWN_STUDIES = 64


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
        key = (run.manifest.signature.value, subject_id)
        with self._lock:
            if key in self._studies:
                self._studies.move_to_end(key)
                return self._studies[key]
        study = read_study(run, subject_id, lambda: _opener(run))
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
            values = load_frame(mapped(_opener(run), one.uri), one.frame).values[0]
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


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    Image.fromarray(shown).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
