"""A slide seen at one resolution: the pixels that a network works on, wherever they come from."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property

from clinimm.modalities.pathology.pixels import Box, Rgb
from clinimm.modalities.pathology.resample import resampled
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import Slide


@dataclass(frozen=True)
class View:
    """A slide at (about) the resolution that was asked for.

    A level within 2 % of it is taken as it is stored; ``resolution`` then says what the level really
    has. Otherwise the coarsest finer level is shrunk. Pixel (0, 0) has the slide's upper left corner.

    Attributes:
        slide: open.
        asked: resolution that was asked for.

    Raises:
        InputRejected: ``no-resolution``, at first use.
    """

    slide: Slide
    asked: Resolution

    @cached_property
    def level(self) -> int:
        """The level that pixels are read from."""
        same = [
            index
            for index in range(len(self.slide.info.levels))
            if self._stored(index).is_same_as(self.asked)
        ]
        if same:
            return same[-1]
        base = self.slide.resolution
        across = self.asked.um_per_pixel_x / base.um_per_pixel_x
        down = self.asked.um_per_pixel_y / base.um_per_pixel_y
        return self.slide.level_for(min(across, down))

    def _stored(self, level: int) -> Resolution:
        scale = self.slide.info.levels[level].downsample
        return self.slide.resolution.scaled(scale, scale)

    @cached_property
    def is_stored(self) -> bool:
        """Whether pixels come as they are stored, without resampling."""
        return self._stored(self.level).is_same_as(self.asked)

    @cached_property
    def resolution(self) -> Resolution:
        """Of the pixels that come out."""
        return self._stored(self.level) if self.is_stored else self.asked

    @cached_property
    def _factors(self) -> tuple[float, float]:
        """Level pixels that one pixel of the view is wide and high."""
        stored = self._stored(self.level)
        return (
            self.resolution.um_per_pixel_x / stored.um_per_pixel_x,
            self.resolution.um_per_pixel_y / stored.um_per_pixel_y,
        )

    @property
    def is_enlarged(self) -> bool:
        """Whether it is finer than the slide: its pixels are then interpolated, and show nothing more."""
        return min(self._factors) < 1

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole slide, in whole pixels of this view."""
        known = self.slide.info.levels[self.level]
        across, down = self._factors
        return _whole(known.width / across), _whole(known.height / down)

    def read(self, box: Box, pool: Executor | None = None) -> Rgb:
        """A box in pixels of this view, white outside the slide.

        Raises:
            InputRejected: ``cannot-read`` or ``truncated``, the pixel data are damaged.
        """
        if self.is_stored:
            return self.slide.read_region(self.level, box, pool)
        across, down = self._factors
        left, top, right, bottom = box
        place = (left * across, top * down, right * across, bottom * down)
        return resampled(self.slide, self.level, place, right - left, bottom - top, pool)

    def level_0_box(self, box: Box) -> Box:
        """The same place in level-0 pixels, rounded."""
        across, down = (factor * self.slide.info.levels[self.level].downsample for factor in self._factors)
        left, top = round(box[0] * across), round(box[1] * down)
        return left, top, left + round((box[2] - box[0]) * across), top + round((box[3] - box[1]) * down)

    def box_um(self, box: Box) -> tuple[float, float, float, float]:
        """The same place in micrometres from the slide's upper left corner."""
        x, y = self.resolution.um_per_pixel_x, self.resolution.um_per_pixel_y
        return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def _whole(length: float) -> int:
    """Pixels that lie on the slide as a whole; at least one."""
    return max(1, int(length + 1e-6))


def at(slide: Slide, um_per_pixel: float | Resolution) -> View:
    """A slide at a resolution.

    Raises:
        ValueError: the resolution is impossible.
    """
    asked = um_per_pixel if isinstance(um_per_pixel, Resolution) else Resolution.of(um_per_pixel)
    return View(slide, asked)
