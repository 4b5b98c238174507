"""The radiology encoder: each picture becomes a grid of tokens, one a cell of the feature map.

With a frozen encoder a row of ``tokens.parquet`` is one cell. With ``fine_tune_blocks`` a row is
one picture, whose trunk maps (a few views of it) become the cells in the network's trainable tail.
"""

from __future__ import annotations

import json
from collections.abc import Mapping as Mapping_
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from clinimm.core.errors import ConfigError
from clinimm.modalities.radiology.pixels import load_pixels
from clinimm.modalities.radiology.transform import Mapping, to_model_input
from clinimm.modality import EncodeContext, Encoded, Statistics
from clinimm.nn.cache import Entry, TokenCache
from clinimm.nn.dense import DenseEncoder, fit_dense
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.fine_tune import FineTunedImageEncoder, fit_fine_tuned, turn, views_of
from clinimm.nn.image import ImageEncoder, load_image_encoder
from clinimm.nn.rows import by_time, fill_cache, gather, most_recent

if TYPE_CHECKING:
    from clinimm.config import ModalityConfig

#: Raise when the same file would give other tokens: old cache entries are then misses.
VERSION = 1

_KNOWN = {"size", "fit", "augment", "test_time", "frames", "components", "network", "weights"}
_TEST_TIME = ("first", "mean")
_FITS = ("pad", "stretch")


@dataclass(frozen=True)
class Options:
    """The options of this encoder, checked.

    Attributes:
        size: side of the square that the network sees, pixels.
        views: views that are encoded of each picture.
        fit: ``pad`` keeps the aspect ratio, ``stretch`` fills the square.
        test_time: ``first`` or ``mean``, see ``FineTunedImageEncoder``.
        frames: most frames that are taken of a multi-frame file, evenly spaced.
        components: principal components kept of a frozen token; 0 keeps all channels.
        network: options of a MONAI or Hugging Face network.
    """

    size: int
    views: tuple[int, ...]
    fit: Literal["pad", "stretch"]
    test_time: str
    frames: int
    components: int
    network: dict[str, Any]


def read_options(config: ModalityConfig) -> Options:
    """The options of the pipeline file.

    Raises:
        ConfigError: an option is unknown or impossible.
    """
    options = config.encoder.options
    if unknown := sorted(set(options) - _KNOWN):
        known = ", ".join(sorted(_KNOWN))
        raise ConfigError(f"radiology encoder option {', '.join(unknown)} is unknown; known are {known}.")
    augment, test_time = str(options.get("augment", "none")), str(options.get("test_time", "first"))
    if augment != "none" and not config.encoder.fine_tune_blocks:
        raise ConfigError(f"radiology: augment {augment} needs fine_tune_blocks above 0.")
    if test_time not in _TEST_TIME:
        raise ConfigError(f"radiology: test_time is {test_time!r}; known are {', '.join(_TEST_TIME)}.")
    shape = str(options.get("fit", "pad"))
    if shape not in _FITS:
        raise ConfigError(f"radiology: fit is {shape!r}; known are {', '.join(_FITS)}.")
    frames = int(options.get("frames", 1))
    if frames < 1:
        raise ConfigError(f"radiology: frames is {frames}; at least 1 is needed.")
    return Options(
        size=int(options.get("size", 224)),
        views=views_of(augment),
        fit="pad" if shape == "pad" else "stretch",
        test_time=test_time,
        frames=frames,
        components=int(options.get("components", 0)),
        network={key: options[key] for key in ("network", "weights") if key in options},
    )


def encode(events: pd.DataFrame, context: EncodeContext) -> Encoded:
    """Tokens of the most recent pictures of each subject, as many as ``max_tokens`` holds.

    A picture is kept whole or not at all; the README of this folder lists the options.
    """
    config = context.config
    options = read_options(config)
    encoder = _load_encoder(config, options)
    cache = TokenCache(context.cache_dir).encoder(_identity(encoder, config, options))
    files = events[events["digest"].notna() & events["uri"].notna()]
    pictures = by_time(files, "digest", "code").drop_duplicates(["subject_id", "digest"], keep="last")
    grid = encoder.grid(options.size)
    cells = grid[0] * grid[1] * options.frames
    if config.max_tokens < cells:
        raise ConfigError(
            f"radiology max_tokens is {config.max_tokens}, but one picture gives {cells} tokens."
        )
    recent = most_recent(pictures, config.max_tokens // cells)
    refusals, counts = fill_cache(
        recent,
        cache,
        lambda row: load_frames(context.opener.read(str(row["uri"])), options),
        _Task(encoder, options, grid, config.encoder.fine_tune_blocks > 0),
        context.batch_size,
        context.progress,
    )
    tokens, values = gather(recent, cache, _describe)
    counts = {**counts, "pictures": len(pictures), "beyond_max_tokens": len(pictures) - len(recent)}
    return Encoded(tokens, values, tuple(refusals.values()), counts)


def _load_encoder(config: ModalityConfig, options: Options) -> ImageEncoder:
    return load_image_encoder(
        config.encoder.name, config.encoder.fine_tune_blocks, options.size, options.network
    )


def _identity(encoder: ImageEncoder, config: ModalityConfig, options: Options) -> dict[str, Any]:
    return {
        "modality": "radiology",
        "encoder": encoder.name,
        "weights": encoder.digest,
        "fine_tune_blocks": config.encoder.fine_tune_blocks,
        "size": options.size,
        "views": list(options.views),
        "frames": options.frames,
        "fit": options.fit,
        "network": options.network,
        "version": VERSION,
    }


@dataclass(frozen=True)
class Frame:
    """A frame as the network sees it: (3, S, S) float32 in [0, 1], and the way back to pixels."""

    number: int
    pixels: np.ndarray
    mapping: Mapping


def load_frames(content: bytes, options: Options) -> list[Frame]:
    """The frames of one file, evenly spaced where it has more than ``options.frames``.

    Raises:
        InputRejected: the pixels cannot be read.
    """
    image = load_pixels(content, options.frames)
    return [
        Frame(number, *to_model_input(image, options.size, options.fit, frame))
        for frame, number in enumerate(image.frames)
    ]


@dataclass(frozen=True)
class _Task:
    """What is computed of each picture."""

    encoder: ImageEncoder
    options: Options
    grid: tuple[int, int]
    fine_tuned: bool

    def __call__(self, pictures: list[list[Frame]]) -> list[Entry]:
        """Entries with ``values``, ``boxes`` and ``frames``, row by row.

        Frozen: a row is a cell, (cell, dim), and cells that hold nothing but padding are left
        out. Fine-tuned: a row is a frame, (frame, view, channel, h, w), with all its boxes.
        """
        views = self.options.views
        images = np.stack([turn(frame.pixels, view) for one in pictures for frame in one for view in views])
        maps = self.encoder.features(images)
        maps = maps.reshape(-1, len(views), *maps.shape[1:])
        ends = np.cumsum([len(one) for one in pictures])
        return [self._entry(one, maps[end - len(one) : end]) for one, end in zip(pictures, ends, strict=True)]

    def _entry(self, frames: list[Frame], maps: np.ndarray) -> Entry:
        boxes = np.stack([cell_boxes(frame.mapping, self.grid, self.options.size) for frame in frames])
        numbers = np.array([frame.number for frame in frames], dtype=np.int32)
        if self.fine_tuned:
            return {"values": maps, "boxes": boxes, "frames": numbers}
        cells = boxes.shape[1]
        values = (
            maps[:, 0].reshape(len(frames), maps.shape[2], cells).swapaxes(1, 2).reshape(-1, maps.shape[2])
        )
        boxes, area = boxes.reshape(-1, 4), cell_areas(boxes).reshape(-1)
        cell = np.tile(np.arange(cells, dtype=np.int32), len(frames))
        real = area > 0
        return {
            "values": values[real],
            "boxes": boxes[real],
            "frames": np.repeat(numbers, cells)[real],
            "cells": cell[real],
        }


def cell_boxes(mapping: Mapping, grid: tuple[int, int], size: int) -> np.ndarray:
    """(cell, 4) float32: left, top, right, bottom of each cell in pixels of the original."""
    high, wide = size / grid[0], size / grid[1]
    return np.asarray(
        [
            mapping.to_original((column * wide, row * high, (column + 1) * wide, (row + 1) * high))
            for row in range(grid[0])
            for column in range(grid[1])
        ],
        dtype=np.float32,
    )


def cell_areas(boxes: np.ndarray) -> np.ndarray:
    """Area of each box, (..., 4) -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _describe(item: Mapping_[str, Any], entry: Entry) -> pd.DataFrame:
    attributes = json.loads(item["attributes"]) if isinstance(item.get("attributes"), str) else {}
    rows = pd.DataFrame(
        {
            "code": item["code"],
            "digest": item["digest"],
            "uri": item["uri"],
            "view": attributes.get("view"),
            "frame": entry["frames"],
        }
    )
    boxes = entry["boxes"]
    if "cells" in entry:
        left, top, right, bottom = boxes.T
        return rows.assign(cell=entry["cells"], left=left, top=top, right=right, bottom=bottom)
    return rows.assign(boxes=[json.dumps(np.round(one, 2).astype(float).tolist()) for one in boxes])


def fit(encoded: Encoded, config: ModalityConfig) -> Statistics:
    """Mean and scale of training tokens; option ``components`` keeps that many principal ones."""
    options = read_options(config)
    if not config.encoder.fine_tune_blocks:
        return fit_dense(encoded.values, options.components)
    return fit_fine_tuned(encoded.values, _load_encoder(config, options).tail)


def build_encoder(config: ModalityConfig, statistics: Statistics) -> TokenEncoder:
    """Standardisation alone, or the network's trainable tail and standardisation."""
    options = read_options(config)
    if not config.encoder.fine_tune_blocks:
        return DenseEncoder(statistics)
    tail = _load_encoder(config, options).tail
    return FineTunedImageEncoder(tail, options.views, statistics, options.test_time)
