"""From an image to the square that an encoder sees, and from a place in it back to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from clinimm.modalities.radiology.pixels import Image

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mapping:
    """Where the original image lies inside the model's input.

    Boxes are ``(left, top, right, bottom)`` in pixels, edges not centres: ``(0, 0, width, height)``
    is the whole image. ``left, top, right, bottom`` here are the image's edges in the input.
    """

    width: int
    height: int
    left: int
    top: int
    right: int
    bottom: int

    def to_original(self, box: Box) -> Box:
        """A box of the input in pixels of the original image, cut at the image's edges.

        A box that lies in the padding alone comes back without area.
        """
        across = self.width / (self.right - self.left)
        down = self.height / (self.bottom - self.top)
        return (
            _within((box[0] - self.left) * across, self.width),
            _within((box[1] - self.top) * down, self.height),
            _within((box[2] - self.left) * across, self.width),
            _within((box[3] - self.top) * down, self.height),
        )

    def to_model(self, box: Box) -> Box:
        """A box of the original image in pixels of the input."""
        across = (self.right - self.left) / self.width
        down = (self.bottom - self.top) / self.height
        return (
            self.left + box[0] * across,
            self.top + box[1] * down,
            self.left + box[2] * across,
            self.top + box[3] * down,
        )


def to_model_input(
    image: Image, size: int = 224, fit: Literal["pad", "stretch"] = "pad", frame: int | None = None
) -> tuple[np.ndarray, Mapping]:
    """The encoder's input: (3, size, size) float32 in 0 to 1, and the way back.

    Args:
        image: what ``load_pixels`` gave.
        size: side of the square, pixels.
        fit: ``pad`` keeps the aspect ratio and fills with black around the centre; ``stretch`` fills
            the square.
        frame: which of ``image.values``; the middle one by default.

    Downsampling is antialiased: Pillow's bilinear filter grows its support with the scale.
    """
    values = image.values[len(image.values) // 2 if frame is None else frame]
    height, width, channels = values.shape
    mapping = fit_mapping(width, height, size, fit)
    shape = (mapping.right - mapping.left, mapping.bottom - mapping.top)
    canvas = np.zeros((3, size, size), dtype=np.float32)
    for channel in range(channels):
        placed = canvas[channel : channel + 1] if channels == 3 else canvas
        placed[:, mapping.top : mapping.bottom, mapping.left : mapping.right] = _resized(
            values[..., channel], shape
        )
    return canvas, mapping


def fit_mapping(width: int, height: int, size: int, fit: str) -> Mapping:
    """Where an image of ``width`` and ``height`` lies in a square of ``size``."""
    if fit == "stretch":
        return Mapping(width, height, 0, 0, size, size)
    if fit != "pad":
        raise ValueError(f"fit is {fit!r}; expected 'pad' or 'stretch'.")
    scale = size / max(width, height)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (size - across) // 2, (size - down) // 2
    return Mapping(width, height, left, top, left + across, top + down)


def _resized(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    from PIL import Image as Pillow

    picture = Pillow.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    if picture.size != shape:
        picture = picture.resize(shape, Pillow.Resampling.BILINEAR)
    return np.clip(np.asarray(picture), 0, 1)


def _within(value: float, limit: int) -> float:
    return min(max(value, 0.0), float(limit))
