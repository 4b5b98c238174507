"""The pathology encoder: a slide becomes tiles of tissue, and each tile one token.

A tile's token is the mean over its feature map, for what matters in a tile is what it is, and
where it lies is known from its box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clinimm.core.errors import ConfigError, InputRejected
from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.transform import Tile, tiles
from clinimm.modality import EncodeContext, Encoded, Statistics
from clinimm.nn.cache import Entry, TokenCache
from clinimm.nn.dense import DenseEncoder, fit_dense
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.image import ImageEncoder, load_image_encoder
from clinimm.nn.rows import by_time, fill_cache, gather, most_recent

if TYPE_CHECKING:
    from clinimm.config import ModalityConfig

#: Raise when the same slide would give other tokens: old cache entries are then misses.
VERSION = 1

_NETWORK = {"network", "weights"}
_KNOWN = {"tile_mpp_um", "mpp_um", "size", "max_tiles", "seed", "components", *_NETWORK}


@dataclass(frozen=True)
class Options:
    """The options of this encoder, checked.

    Attributes:
        tile_mpp_um: resolution at which tiles are cut, micrometres a pixel.
        mpp_um: resolution of slides that state none, micrometres a pixel at level 0, or None.
        size: side of a tile at that resolution, pixels.
        max_tiles: most tiles of a slide.
        seed: of the draw among more tiles than that.
        components: principal components kept of a token; 0 keeps all channels.
        network: options of a MONAI network.
    """

    tile_mpp_um: float
    mpp_um: float | None
    size: int
    max_tiles: int
    seed: int
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
        raise ConfigError(f"pathology encoder option {', '.join(unknown)} is unknown; known are {known}.")
    if config.encoder.fine_tune_blocks:
        raise ConfigError("pathology: fine_tune_blocks must be 0; tiles are encoded by a frozen network.")
    max_tiles = int(options.get("max_tiles", 64))
    if not 0 < max_tiles <= config.max_tokens:
        raise ConfigError(
            f"pathology: max_tiles is {max_tiles}; expected 1 to max_tokens, which is {config.max_tokens}."
        )
    mpp_um = options.get("mpp_um")
    return Options(
        tile_mpp_um=float(options.get("tile_mpp_um", 0.5)),
        mpp_um=None if mpp_um is None else float(mpp_um),
        size=int(options.get("size", 224)),
        max_tiles=max_tiles,
        seed=int(options.get("seed", 0)),
        components=int(options.get("components", 0)),
        network={key: options[key] for key in sorted(_NETWORK) if key in options},
    )


def encode(events: pd.DataFrame, context: EncodeContext) -> Encoded:
    """Tokens of the most recent slides of each subject, as many as ``max_tokens`` holds."""
    config = context.config
    options = read_options(config)
    encoder = load_image_encoder(config.encoder.name, 0, options.size, options.network)
    cache = TokenCache(context.cache_dir).encoder(_identity(encoder, options))
    files = events[events["digest"].notna() & events["uri"].notna()]
    slides = by_time(files, "digest", "code").drop_duplicates(["subject_id", "digest"], keep="last")
    recent = most_recent(slides, config.max_tokens // options.max_tiles)
    refusals, counts = fill_cache(
        recent,
        cache,
        lambda row: _tiles(context, str(row["uri"]), options),
        lambda loaded: [_entry(encoder, one) for one in loaded],
        batch_size=1,  # a slide is a batch of tiles already
        progress=context.progress,
    )
    tokens, values = gather(recent, cache, _describe)
    counts = {**counts, "slides": len(slides), "beyond_max_tokens": len(slides) - len(recent)}
    return Encoded(tokens, values, tuple(refusals.values()), counts)


def _identity(encoder: ImageEncoder, options: Options) -> dict[str, Any]:
    return {
        "modality": "pathology",
        "encoder": encoder.name,
        "weights": encoder.digest,
        "tile_mpp_um": options.tile_mpp_um,
        "mpp_um": options.mpp_um,
        "size": options.size,
        "max_tiles": options.max_tiles,
        "seed": options.seed,
        "network": options.network,
        "version": VERSION,
    }


def _tiles(context: EncodeContext, uri: str, options: Options) -> list[Tile]:
    with Slide(context.opener.local_path(uri), options.mpp_um) as slide:
        found = tiles(slide, options.tile_mpp_um, options.size, options.max_tiles, options.seed)
    if not found:
        raise InputRejected(
            "no-tissue", "no tile of the slide holds tissue", "check that the slide is in focus"
        )
    return found


def _entry(encoder: ImageEncoder, found: list[Tile]) -> Entry:
    pictures = np.stack([tile.rgb.transpose(2, 0, 1) for tile in found]).astype(np.float32) / 255
    maps = encoder.features(pictures)  # (tile, channel, row, column)
    return {
        "values": maps.astype(np.float32).mean(axis=(2, 3)).astype(np.float16),
        "boxes": np.asarray([[t.x, t.y, t.x + t.w, t.y + t.h] for t in found], dtype=np.int64),
        "tissue": np.asarray([tile.tissue for tile in found], dtype=np.float32),
    }


def _describe(item: Mapping[str, Any], entry: Entry) -> pd.DataFrame:
    left, top, right, bottom = entry["boxes"].T
    return pd.DataFrame(
        {
            "code": item["code"],
            "digest": item["digest"],
            "uri": item["uri"],
            "tile": np.arange(len(left), dtype=np.int32),
            "left": left,
            "top": top,
            "right": right,
            "bottom": bottom,
            "tissue": entry["tissue"],
        }
    )


def fit(encoded: Encoded, config: ModalityConfig) -> Statistics:
    """Mean and scale of training tokens; option ``components`` keeps that many principal ones."""
    return fit_dense(encoded.values, read_options(config).components)


def build_encoder(config: ModalityConfig, statistics: Statistics) -> TokenEncoder:
    """Standardises; the network itself ran in ``encode`` and is frozen."""
    return DenseEncoder(statistics)
