"""The notes encoder: each sentence-like span of a note becomes a token.

Its values are what a frozen language model reads in it and, where asked for, the words it uses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from clinimm.core.errors import ConfigError, InputRejected, Refusal
from clinimm.core.record import digest_bytes
from clinimm.modalities.notes.language_model import LEXICAL, encode_texts, load_text_encoder
from clinimm.modalities.notes.lexical import fit_lexical, lexical_vectors
from clinimm.modalities.notes.transform import spans
from clinimm.modality import EncodeContext, Encoded, Statistics
from clinimm.nn.cache import Entry, TokenCache
from clinimm.nn.dense import Standardise, fit_dense
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.rows import by_time, fill_cache, gather, most_recent
from clinimm.nn.tokens import Tokens

if TYPE_CHECKING:
    from clinimm.config import ModalityConfig

_UNITS = ("span", "wordpiece")
_KNOWN = {"unit", "components", "lexical", "min_subjects"}
_LEXICAL_COMPONENTS = 64


def encode(events: pd.DataFrame, context: EncodeContext) -> Encoded:
    """One token a span of every note.

    Options: ``unit`` (``span``, default, or ``wordpiece``), and those of ``fit``.
    """
    unit = _unit(context.config)
    notes = by_time(_with_digest(events), "digest", "code")
    if context.config.encoder.name == LEXICAL:
        return _spans_alone(notes, context.config)
    encoder = load_text_encoder(context.config.encoder.name)
    cache = TokenCache(context.cache_dir).encoder(encoder.identity(unit))
    refusals, counts = fill_cache(
        notes,
        cache,
        _text,
        lambda texts: encode_texts(encoder, texts, unit),
        context.batch_size,
        context.progress,
    )
    rows, values = gather(notes, cache, _describe)
    return _limited(Encoded(rows, values, tuple(refusals.values()), counts), context.config.max_tokens)


def _limited(encoded: Encoded, limit: int) -> Encoded:
    numbered = encoded.tokens.assign(row=np.arange(len(encoded.tokens)))
    kept = most_recent(numbered, limit)
    values = encoded.values[kept["row"].to_numpy(dtype=np.int64)]
    counts = {**encoded.counts, "beyond_max_tokens": len(numbered) - len(kept)}
    return Encoded(kept.drop(columns="row"), values, encoded.refusals, counts)


def _spans_alone(notes: pd.DataFrame, config: ModalityConfig) -> Encoded:
    """The spans without values: their words become numbers once a vocabulary is learned."""
    frames, refusals = [notes[["subject_id", "time_hours"]].iloc[:0]], []
    for item in notes.to_dict("records"):
        row = {str(key): value for key, value in item.items()}
        try:
            places = np.asarray(spans(_text(row)), dtype=np.int32).reshape(-1, 2)
        except InputRejected as error:
            digest = str(row["digest"])
            refusals.append(Refusal(digest, str(row["code"]), error.code, error.reason, error.remedy))
            continue
        described = _describe(row, {"spans": places})
        frames.append(described.assign(subject_id=row["subject_id"], time_hours=float(row["time_hours"])))
    tokens = pd.concat(frames, ignore_index=True)
    return _limited(
        Encoded(tokens, np.zeros((len(tokens), 0), np.float16), tuple(refusals)), config.max_tokens
    )


def _unit(config: ModalityConfig) -> str:
    options = config.encoder.options
    if unknown := sorted(set(options) - _KNOWN):
        known = ", ".join(sorted(_KNOWN))
        raise ConfigError(f"notes encoder option {', '.join(unknown)} is unknown; known are {known}.")
    if config.encoder.fine_tune_blocks:
        raise ConfigError("notes: fine_tune_blocks must be 0; the language model stays frozen.")
    unit = str(options.get("unit", _UNITS[0]))
    if unit != _UNITS[0] and _lexical_components(config):
        raise ConfigError(f"notes encoder option unit is {unit!r}, but lexical needs {_UNITS[0]!r}.")
    if unit not in _UNITS:
        raise ConfigError(f"notes encoder option unit is {unit!r}; known are {', '.join(_UNITS)}.")
    return unit


def _with_digest(events: pd.DataFrame) -> pd.DataFrame:
    text = events["text_value"].fillna("").astype(object)
    digests = [digest_bytes(one.encode("utf-8")) for one in text]
    return events.assign(text_value=text, digest=pd.Series(digests, index=events.index, dtype=object))


def _text(row: Mapping[str, Any]) -> str:
    text = str(row["text_value"])
    if not text.strip():
        raise InputRejected("empty-note", "the note has no text", "leave it out, or export its text")
    return text


def _describe(item: Mapping[str, Any], entry: Entry) -> pd.DataFrame:
    start, stop = entry["spans"][:, 0], entry["spans"][:, 1]
    text = str(item["text_value"])
    return pd.DataFrame(
        {
            "digest": item["digest"],
            "start": start,
            "stop": stop,
            "text": [text[a:b] for a, b in zip(start, stop, strict=True)],
        }
    )


def _lexical_components(config: ModalityConfig) -> int:
    options = config.encoder.options
    usual = _LEXICAL_COMPONENTS if options.get("unit", _UNITS[0]) == _UNITS[0] else 0
    return int(options.get("lexical", usual))


def fit(encoded: Encoded, config: ModalityConfig) -> Statistics:
    """Mean and scale of training tokens and, where asked for, their words.

    Options: ``components`` keeps that many principal components of the language model's tokens;
    ``lexical`` (default 64) adds that many of the words that the span uses (``min_subjects``,
    default 3, must use a word).
    """
    options = config.encoder.options
    dense = fit_dense(encoded.values, int(options.get("components", 0)))
    wanted = _lexical_components(config)
    if not wanted:
        return dense
    words = fit_lexical(encoded.tokens, wanted, int(options.get("min_subjects", 3)))
    scale = fit_dense(lexical_vectors(encoded.tokens["text"], words), int(words["components"]))
    raw_dim = int(dense["inputs"]) + int(words["components"])
    return {**dense, "raw_dim": raw_dim, "lexical": words, "lexical_scale": scale}


def tensorise(encoded: Encoded, statistics: Statistics) -> np.ndarray:
    """(row, dim) float32: the language model's token, then the words' components."""
    values = np.asarray(encoded.values, dtype=np.float32)
    if "lexical" not in statistics:
        return values
    return np.concatenate([values, lexical_vectors(encoded.tokens["text"], statistics["lexical"])], axis=1)


class NotesEncoder(TokenEncoder):
    """Standardises the language model's part and the words' part of each token.

    Zero is the average training token, so the default baseline holds. Both parts vary alike in
    sum, however many channels each has.
    """

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        parts = [statistics, *([statistics["lexical_scale"]] if "lexical" in statistics else [])]
        self.parts = torch.nn.ModuleList(Standardise(part) for part in parts)
        self.sizes = [int(part["inputs"]) for part in parts]
        widths = [int(part["dim"]) for part in parts]
        self.dim = sum(widths)
        used = sum(width > 0 for width in widths)
        self.balance = [math.sqrt(self.dim / used / width) if width else 0.0 for width in widths]

    def embed(self, raw: Tokens) -> Tokens:
        """(batch, row, raw) -> (batch, row, dim)."""
        pieces = raw.values.split(self.sizes, dim=-1)
        values = torch.cat(
            [share * part(x) for share, part, x in zip(self.balance, self.parts, pieces, strict=True)], dim=-1
        )
        return raw.with_values(values * raw.mask.unsqueeze(-1))


def build_encoder(config: ModalityConfig, statistics: Statistics) -> TokenEncoder:
    """Standardises; the language model itself ran in ``encode`` and is frozen."""
    return NotesEncoder(statistics)
