"""The contract that a modality folder fulfils.

A modality is a value: a name and a handful of functions. The built-in ones stand in the table in
``modalities/__init__.py``; an outside package exposes one as ``MODALITY`` and is named under
``plugins`` in the pipeline file. ``clinimm.testing.check_modality`` checks one.

What happens to a file: ``scan`` turns it into facts (ingest), ``encode`` turns a subject's visible
events into rows of tokens (encode), ``fit`` learns statistics from training subjects only,
``tensorise`` and ``build_encoder`` feed the network (train), ``locate`` turns a token back into
a place in the source (explain).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clinimm.core.attribution import Place
from clinimm.core.errors import Refusal

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from clinimm.config import ModalityConfig
    from clinimm.nn.encoder import TokenEncoder
    from clinimm.progress import Progress
    from clinimm.sources.base import Opener, Source, SourceFile

Statistics = dict[str, Any]


@dataclass(frozen=True)
class Identity:
    """What a file says about who a patient is. It lives in memory, between scan and linkage.

    Attributes:
        keys: every ``(issuer, identifier)`` of the patient; issuer is None where none is stated.
        reference: the name by which facts of the same source refer to the patient, such as
            ``Patient/123``, or None.
        birth_date: ISO date, possibly only a year, or None.
        sex: ``female``, ``male``, ``other``, ``unknown``, or None where not stated.
        race, ethnicity: US Core categories as text, or None.
        names: name parts and addresses, used to clean the patient's own notes and nothing else.
    """

    keys: tuple[tuple[str | None, str], ...]
    reference: str | None = None
    birth_date: str | None = None
    sex: str | None = None
    race: str | None = None
    ethnicity: str | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fact:
    """An event whose subject is not linked yet; fields as in ``core.event.Event``.

    ``patient`` is a ``Patient/...`` reference or an ``(issuer, identifier)`` pair.
    ``encounter`` is the raw encounter id. ``attributes`` must hold no identifier.
    ``age_years`` is the age that the file itself states at ``time``, if any.
    ``instance`` is the unique id of the object (SOP Instance UID, resource type and id), by which
    duplicates are found.
    """

    patient: str | tuple[str | None, str]
    time: datetime
    code: str
    modality: str
    category: str
    numeric_value: float | None = None
    unit: str | None = None
    text_value: str | None = None
    encounter: str | None = None
    flags: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    age_years: float | None = None
    instance: str | None = None
    is_file: bool = False


@dataclass(frozen=True)
class Scan:
    """All that one file gave."""

    identities: tuple[Identity, ...] = ()
    facts: tuple[Fact, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoded:
    """The visible tokens of many subjects.

    Attributes:
        tokens: one row a token, sorted by ``subject_id`` and then time; columns ``subject_id``,
            ``time_hours`` (hours before the index time) and what ``locate`` needs.
        values: (row, ...) aligned with ``tokens``; (row, 0) where ``tensorise`` computes them.
    """

    tokens: pd.DataFrame
    values: np.ndarray


@dataclass(frozen=True)
class EncodeContext:
    """What ``encode`` may use besides the events."""

    config: ModalityConfig
    opener: Opener
    cache_dir: Path
    batch_size: int
    progress: Progress


def _as_is(encoded: Encoded, statistics: Statistics) -> np.ndarray:
    return encoded.values.reshape(len(encoded.values), -1)


def _one_item_a_row(row: Mapping[str, Any]) -> str:
    return str(row.get("digest"))


@dataclass(frozen=True)
class Modality:
    """One kind of input.

    Attributes:
        name: lower case; the ``modality`` of its events and its folder under ``encode/``.
        title: what a clinician calls it.
        extra: the optional dependency group that it needs.
        accepts: whether ``scan`` should be tried on a file, from its path and first 512 bytes.
        scan: reads one file into identities, facts and refusals. Raises ``InputRejected`` to
            refuse the whole file.
        encode: loads, transforms and encodes the events that ``cohort.window`` left visible; its
            events have the extra column ``time_hours``. Items that cannot be encoded raise
            nothing: they are left out and listed by ``Encoded`` having no rows for them.
        fit: statistics (vocabulary, means) from training subjects; JSON values only.
        tensorise: encoded rows -> (row, dim) float32 for ``build_encoder``'s network.
        build_encoder: the trainable network from raw tokens to tokens.
        locate: a row of ``Encoded.tokens`` and a cell within it -> the place in the source.
    """

    name: str
    title: str
    extra: str
    accepts: Callable[[str, bytes], bool]
    scan: Callable[[Source, SourceFile], Scan]
    encode: Callable[[pd.DataFrame, EncodeContext], Encoded]
    fit: Callable[[Encoded, ModalityConfig], Statistics]
    build_encoder: Callable[[ModalityConfig, Statistics], TokenEncoder]
    locate: Callable[[Mapping[str, Any], int], Place]
    tensorise: Callable[[Encoded, Statistics], np.ndarray] = _as_is
