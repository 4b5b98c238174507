"""Registered regions in the token cache: registering takes seconds a pair, and pairs do not change."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from clinimm.config import StainingConfig
from clinimm.core.errors import Refusal
from clinimm.core.record import digest_json
from clinimm.nn.cache import EncoderCache, Entry, TokenCache
from clinimm.staining.make_regions import Files, Made, make_regions
from clinimm.staining.pair_store import Region
from clinimm.staining.pairs import StainPair

#: Raise when the same slides would give other regions: old entries are then misses.
VERSION = 3
_SETTINGS = ("resolution_um", "regions", "region_pixels", "largest_error_um", "allow_synthetic_input",
             "register_pairs")  # fmt: skip
_NOTE = "note"


def cached_regions(files: Files, cache: Path, config: StainingConfig, seed: int) -> Made:
    """``make_regions``, or what it gave for the same slides and settings before.

    Args:
        files: the slides of a pair.
        cache: folder of the token cache.
        config: of the pipeline.
        seed: of the registration.
    """
    store = _store(cache, config, seed)
    key = digest_json([files.source[1], {stain: digest for stain, (_, digest) in files.targets.items()}])
    entry = store.get(key)
    if entry is not None:
        return _read(entry, files)
    made = make_regions(files, config, seed)
    store.put(key, _entry(made))
    return made


def _store(cache: Path, config: StainingConfig, seed: int) -> EncoderCache:
    settings = {name: getattr(config, name) for name in _SETTINGS}
    identity = {"encoder": "stain pairs", "version": VERSION, "seed": seed, **settings}
    return TokenCache(cache).encoder(identity)


def _entry(made: Made) -> Entry:
    note = {
        "regions": [
            {
                "left": one.left,
                "top": one.top,
                "side": one.side,
                "digest": one.digest,
                "error_um": one.error_um,
                "resolution_um": one.pair.resolution_um,
                "synthetic": one.pair.synthetic,
                "stains": list(one.pair.targets),
            }
            for one in made.regions
        ],
        "errors": [{k: v for k, v in row.items() if k not in _WHOSE} for row in made.errors],
        "refusals": [asdict(refusal) for refusal in made.refusals],
    }
    entry: Entry = {_NOTE: np.frombuffer(json.dumps(note).encode(), dtype=np.uint8)}
    for place, one in enumerate(made.regions):
        entry[f"{place}:source"] = one.pair.source
        entry[f"{place}:valid"] = one.pair.valid
        entry |= {f"{place}:{stain}": image for stain, image in one.pair.targets.items()}
    return entry


#: The same slides may come under another key's pseudonym; whose they are is not kept.
_WHOSE = ("subject_id", "specimen")


def _read(entry: Entry, files: Files) -> Made:
    note = json.loads(entry[_NOTE].tobytes())
    whose = {"subject_id": files.subject_id, "specimen": files.specimen}
    regions = []
    for place, row in enumerate(note["regions"]):
        pair = StainPair(
            subject_id=files.subject_id,
            specimen=files.specimen,
            source=entry[f"{place}:source"],
            targets={stain: entry[f"{place}:{stain}"] for stain in row["stains"]},
            valid=entry[f"{place}:valid"],
            resolution_um=row["resolution_um"],
            synthetic=row["synthetic"],
        )
        regions.append(Region(pair, row["left"], row["top"], row["side"], row["digest"], row["error_um"]))
    errors = tuple({**whose, **row} for row in note["errors"])
    return Made(tuple(regions), errors, tuple(Refusal(**row) for row in note["refusals"]))
