"""The pathology encoder: a slide becomes tiles of tissue, and each tile one token.

A tile's token is the mean over its feature map, for what matters in a tile is what it is, and
where it lies is known from its box. What the network reads of the tiles is another matter: all of
them, or with option ``mil`` a few slide tokens made of them (``clinimm.nn.mil``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from clinimm.core.errors import ConfigError, InputRejected
from clinimm.modalities.pathology.quality import FAULTS, overview_quality, tile_fault
from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.stains import METHODS, REASONS, Unchanged, fit_slide
from clinimm.modalities.pathology.transform import Tile, choose, tiles
from clinimm.modality import EncodeContext, Encoded, Statistics
from clinimm.nn.cache import Entry, TokenCache
from clinimm.nn.dense import DenseEncoder, fit_dense
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.image import ImageEncoder, load_image_encoder
from clinimm.nn.mil import BAGS
from clinimm.nn.rows import by_time, fill_cache, gather, most_recent

if TYPE_CHECKING:
    from clinimm.config import ModalityConfig

#: Raise when the same slide would give other tokens: old cache entries are then misses.
VERSION = 2

_NETWORK = {"network", "weights"}
_STAINS, _QUALITY, _MIL = "stain_normalisation", "quality", "mil"
_KNOWN = {"tile_mpp_um", "mpp_um", "size", "max_tiles", "seed", "components"}
_KNOWN |= {_STAINS, _QUALITY, _MIL, *_NETWORK}
_EDGES = ("left", "top", "right", "bottom")
#: Tiles that are drawn where some turned out unfit, as a multiple of those wanted.
_SPARE = 2


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
        stain_normalisation: one of ``stains.METHODS``.
        quality: whether tiles are left out that show pen, a fold, a bubble or no focus.
        mil: ``none``, every tile is a token of the model; or a name in ``nn.mil.BAGS``.
        network: options of a MONAI network.
    """

    tile_mpp_um: float
    mpp_um: float | None
    size: int
    max_tiles: int
    seed: int
    components: int
    stain_normalisation: str
    quality: bool
    mil: str
    network: dict[str, Any]


@dataclass(frozen=True)
class SlideTiles:
    """What is encoded of one slide.

    Attributes:
        tiles: in the reference's colours where that was asked for.
        unchanged: why the slide's colours were left as they are, one of ``stains.REASONS``.
        left_out: unfit tiles by fault, aligned with ``quality.FAULTS``.
    """

    tiles: list[Tile]
    unchanged: str
    left_out: list[int]


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
    quality = options.get(_QUALITY, False)
    if not isinstance(quality, bool):
        raise ConfigError(f"pathology: quality is {quality!r}; expected true or false.")
    return Options(
        tile_mpp_um=float(options.get("tile_mpp_um", 0.5)),
        mpp_um=None if mpp_um is None else float(mpp_um),
        size=int(options.get("size", 224)),
        max_tiles=max_tiles,
        seed=int(options.get("seed", 0)),
        components=int(options.get("components", 0)),
        stain_normalisation=_one_of(options, _STAINS, METHODS),
        quality=quality,
        mil=_one_of(options, _MIL, ("none", *BAGS)),
        network={key: options[key] for key in sorted(_NETWORK) if key in options},
    )


def _one_of(options: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    # YAML reads an unquoted `none` as a word and `null` as None; both mean none here.
    value = str(options.get(name) or "none")
    if value not in known:
        raise ConfigError(f"pathology: {name} is {value!r}; known are {', '.join(known)}.")
    return value


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
    found: dict[str, Entry] = {}
    tokens, values = gather(recent, cache, lambda item, entry: _describe(item, entry, found))
    counts = {
        **counts,
        **_count(found.values(), options),
        "slides": len(slides),
        "beyond_max_tokens": len(slides) - len(recent),
    }
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
        "stain_normalisation": options.stain_normalisation,
        "quality": options.quality,
        "network": options.network,
        "version": VERSION,
    }


def _tiles(context: EncodeContext, uri: str, options: Options) -> SlideTiles:
    with Slide(context.opener.local_path(uri), options.mpp_um) as slide:
        if options.quality:
            found, left_out = _fit_tiles(slide, options)
        else:
            found, left_out = _drawn(slide, options), [0] * len(FAULTS)
        unfit = sum(left_out)
        if not found and unfit:
            raise InputRejected(
                "no-usable-tissue",
                f"all {unfit} tiles of the slide show pen, folds, bubbles or no focus",
                "look at it with `clinimm slide-quality`, scan it again, or set quality: false",
            )
        if not found:
            raise InputRejected(
                "no-tissue", "no tile of the slide holds tissue", "check that the slide is in focus"
            )
        normaliser = fit_slide(slide, options.stain_normalisation, options.seed)
    code = normaliser.code if isinstance(normaliser, Unchanged) else ""
    changed = [replace(tile, rgb=normaliser.apply(tile.rgb)) for tile in found]
    return SlideTiles(changed, code, left_out)


def _drawn(slide: Slide, options: Options, spare: int = 1) -> list[Tile]:
    return tiles(slide, options.tile_mpp_um, options.size, spare * options.max_tiles, options.seed)


def _fit_tiles(slide: Slide, options: Options) -> tuple[list[Tile], list[int]]:
    """Tiles without a fault, and how many of those looked at had which."""
    quality = overview_quality(slide)
    drawn = _drawn(slide, options)
    faults = [tile_fault(tile, quality, slide.dimensions) for tile in drawn]
    if any(faults) and len(drawn) == options.max_tiles:
        drawn = _drawn(slide, options, _SPARE)
        faults = [tile_fault(tile, quality, slide.dimensions) for tile in drawn]
    fit = [tile for tile, fault in zip(drawn, faults, strict=True) if fault is None]
    chosen = choose(len(fit), options.max_tiles, options.seed)
    return [fit[index] for index in chosen], [faults.count(name) for name in FAULTS]


def _entry(encoder: ImageEncoder, found: SlideTiles) -> Entry:
    pictures = np.stack([tile.rgb.transpose(2, 0, 1) for tile in found.tiles]).astype(np.float32) / 255
    maps = encoder.features(pictures)  # (tile, channel, row, column)
    return {
        "values": maps.astype(np.float32).mean(axis=(2, 3)).astype(np.float16),
        "boxes": np.asarray([[t.x, t.y, t.x + t.w, t.y + t.h] for t in found.tiles], dtype=np.int64),
        "boxes_um": np.asarray([tile.box_um for tile in found.tiles], dtype=np.float32),
        "tissue": np.asarray([tile.tissue for tile in found.tiles], dtype=np.float32),
        "unchanged": np.asarray([REASONS.index(found.unchanged)], dtype=np.uint8),
        "left_out": np.asarray(found.left_out, dtype=np.int32),
    }


def _describe(item: Mapping[str, Any], entry: Entry, seen: dict[str, Entry]) -> pd.DataFrame:
    seen[str(item["digest"])] = {name: entry[name] for name in ("unchanged", "left_out")}
    return pd.DataFrame(
        {
            "code": item["code"],
            "digest": item["digest"],
            "uri": item["uri"],
            "tile": np.arange(len(entry["boxes"]), dtype=np.int32),
            **dict(zip(_EDGES, entry["boxes"].T, strict=True)),
            **dict(zip([f"{edge}_um" for edge in _EDGES], entry["boxes_um"].T, strict=True)),
            "tissue": entry["tissue"],
        }
    )


def _count(entries: Iterable[Entry], options: Options) -> dict[str, int]:
    """Slides whose stains could not be told, by reason, and tiles left out, by fault."""
    every = list(entries)
    counts: Counter[str] = Counter()
    if options.stain_normalisation != "none":
        codes = [REASONS[int(entry["unchanged"][0])] for entry in every]
        counts["stain_unchanged"] = sum(code != "" for code in codes)
        counts.update(f"stain_unchanged_{code}" for code in codes if code)
    if options.quality:
        totals = np.sum([entry["left_out"] for entry in every] or [np.zeros(len(FAULTS))], axis=0)
        counts["tiles_left_out"] = int(totals.sum())
        counts.update({f"tiles_left_out_{name}": int(n) for name, n in zip(FAULTS, totals, strict=True) if n})
    return dict(counts)


def fit(encoded: Encoded, config: ModalityConfig) -> Statistics:
    """Mean and scale of training tokens; option ``components`` keeps that many principal ones.

    Where tiles are to read each other, it is noted that raw tokens end with their place.
    """
    options = read_options(config)
    found = fit_dense(encoded.values, options.components)
    if options.mil != "transformer":
        return found
    return {**found, "raw_dim": found["raw_dim"] + 2, "places": True}


def tensorise(encoded: Encoded, statistics: Statistics) -> Float[np.ndarray, "row raw"]:
    """Tokens as they are; with ``places`` each ends with its column and row on the slide.

    Those count in tiles from the middle of the slide's tiles, so that a place says how tiles lie
    to each other and nothing of where the tissue was put on the glass.
    """
    if not statistics.get("places"):
        return encoded.values
    table = encoded.tokens
    if table.empty:
        return np.zeros((0, int(statistics["raw_dim"])), np.float32)
    side = (table["right"] - table["left"]).clip(lower=1)
    place = pd.DataFrame({"column": table["left"] / side, "row": table["top"] / side})
    place -= place.groupby([table["subject_id"], table["digest"]]).transform("mean")
    return np.concatenate([encoded.values.astype(np.float32), place.to_numpy(np.float32)], axis=1)


def build_encoder(config: ModalityConfig, statistics: Statistics) -> TokenEncoder:
    """Standardises; the network itself ran in ``encode`` and is frozen. Option ``mil`` reads bags."""
    mil = read_options(config).mil
    return DenseEncoder(statistics) if mil == "none" else BAGS[mil](statistics)
