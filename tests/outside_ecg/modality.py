"""The whole modality in one file: read, encode, learn, point back.

A file is one recording of one lead::

    #ECG patient=MRN1 time=2024-03-01T10:20:00+00:00 hertz=100
    0.01 0.02 0.90 ...            (millivolts)
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from clinimm.config import ModalityConfig
from clinimm.core.attribution import Place
from clinimm.core.errors import InputRejected
from clinimm.modality import EncodeContext, Encoded, Fact, Identity, Modality, Scan, Statistics
from clinimm.nn.cache import Entry, TokenCache
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.rows import by_time, fill_cache, gather, most_recent
from clinimm.nn.tokens import Tokens
from clinimm.sources.base import Source, SourceFile

MAGIC = b"#ECG "
WINDOW_SECONDS = 1.0
FEATURES = ("mean", "deviation", "lowest", "highest", "steepest")
_RESEND = "export the recording again"


def accepts(path: str, head: bytes) -> bool:
    return head.startswith(MAGIC)


def read(content: bytes) -> tuple[dict[str, str], np.ndarray]:
    try:
        header, _, body = content.decode("ascii").partition("\n")
        fields = dict(part.split("=", 1) for part in header.removeprefix("#ECG ").split())
        samples = np.array([float(text) for text in body.split()])
    except ValueError as error:
        raise InputRejected("not-ecg", "the file is no ECG text", _RESEND) from error
    if len(samples) == 0 or not {"patient", "time", "hertz"} <= fields.keys():
        raise InputRejected("truncated", "header or samples are missing", _RESEND)
    return fields, samples


def scan(source: Source, file: SourceFile) -> Scan:
    fields, samples = read(source.read(file.path))
    try:
        time = datetime.fromisoformat(fields["time"])
    except ValueError as error:
        raise InputRejected("no-time", "the time is no ISO 8601 time", _RESEND) from error
    if time.tzinfo is None:
        raise InputRejected("no-time", "the time states no zone", _RESEND)
    patient = (None, fields["patient"])
    fact = Fact(
        patient=patient,
        time=time,
        code="ECG//lead-II",
        modality="ecg",
        category="waveform",
        attributes={"hertz": float(fields["hertz"]), "samples": len(samples)},
        instance=file.path,
        is_file=True,
    )
    return Scan(identities=(Identity(keys=(patient,)),), facts=(fact,))


def encode(events: pd.DataFrame, context: EncodeContext) -> Encoded:
    cache = TokenCache(context.cache_dir).encoder(
        {"modality": "ecg", "encoder": "window-shape", "version": 1}
    )
    recordings = by_time(events, "digest")
    refusals, counts = fill_cache(
        recordings,
        cache,
        lambda row: read(context.opener.read(str(row["uri"]))),
        lambda loaded: [windows(samples, float(fields["hertz"])) for fields, samples in loaded],
        context.batch_size,
        context.progress,
    )
    tokens, values = gather(recordings, cache, describe)
    tokens["row"] = np.arange(len(tokens))
    kept = most_recent(tokens, context.config.max_tokens)
    values = values[kept["row"].to_numpy(dtype=np.int64)]
    return Encoded(kept.drop(columns="row"), values, tuple(refusals.values()), counts)


def windows(samples: np.ndarray, hertz: float) -> Entry:
    length = max(2, round(WINDOW_SECONDS * hertz))
    count = max(1, len(samples) // length)
    pieces = np.resize(samples, (count, length)) if len(samples) < length else samples[: count * length]
    pieces = pieces.reshape(count, length)
    shape = [pieces.mean(1), pieces.std(1), pieces.min(1), pieces.max(1), np.abs(np.diff(pieces)).max(1)]
    return {"values": np.stack(shape, axis=1).astype(np.float16), "first": np.arange(count) * length}


def describe(item: Mapping[str, Any], entry: Entry) -> pd.DataFrame:
    return pd.DataFrame({"digest": item["digest"], "code": item["code"], "first": entry["first"]})


def fit(encoded: Encoded, config: ModalityConfig) -> Statistics:
    values = encoded.values.astype(np.float64)
    return {
        "raw_dim": len(FEATURES),
        "mean": values.mean(axis=0).tolist(),
        "deviation": np.maximum(values.std(axis=0), 1e-3).tolist(),
    }


def tensorise(encoded: Encoded, statistics: Statistics) -> np.ndarray:
    centred = encoded.values.astype(np.float32) - np.asarray(statistics["mean"], dtype=np.float32)
    return np.asarray(centred / np.asarray(statistics["deviation"], dtype=np.float32))


class WaveEncoder(TokenEncoder):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.network = nn.Sequential(nn.Linear(len(FEATURES), dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, embedded: Tokens) -> Tokens:
        return embedded.with_values(self.network(embedded.values))


def build_encoder(config: ModalityConfig, statistics: Statistics) -> TokenEncoder:
    return WaveEncoder(int(config.encoder.options.get("dim", 16)))


def locate(row: Mapping[str, Any], cell: int) -> Place:
    first = int(row["first"])
    return Place("event", str(row["digest"]), (), f"lead II from sample {first}", float(row["time_hours"]))


MODALITY = Modality(
    name="ecg",
    title="Electrocardiogram",
    extra="ecg",
    accepts=accepts,
    scan=scan,
    encode=encode,
    fit=fit,
    tensorise=tensorise,
    build_encoder=build_encoder,
    locate=locate,
)
