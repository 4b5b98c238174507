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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clinimm.config import IngestConfig
from clinimm.core.attribution import Place
from clinimm.core.errors import MissingExtraError, Refusal
from clinimm.core.fact import Fact

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
        race_source: where the race came from, such as ``us-core ombCategory``.
        version_us: when this version was recorded, microseconds since 1970, or None.
    """

    keys: tuple[tuple[str | None, str], ...]
    reference: str | None = None
    birth_date: str | None = None
    sex: str | None = None
    race: str | None = None
    ethnicity: str | None = None
    names: tuple[str, ...] = ()
    race_source: str | None = None
    version_us: int | None = None


@dataclass(frozen=True)
class Scan:
    """All that one file gave."""

    identities: tuple[Identity, ...] = ()
    facts: Sequence[Fact] = ()
    refusals: tuple[Refusal, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)


def rules_of(source: Source) -> IngestConfig:
    """How the files of ``source`` are to be read; the defaults where the source does not say."""
    return getattr(source, "rules", None) or IngestConfig()


@dataclass(frozen=True)
class Encoded:
    """The visible tokens of many subjects.

    Attributes:
        tokens: one row a token, sorted by ``subject_id`` and then time; columns ``subject_id``,
            ``time_hours`` (hours before the index time) and what ``locate`` needs.
        values: (row, ...) aligned with ``tokens``; (row, 0) where ``tensorise`` computes them.
        refusals: items that could not be encoded; ``file`` is the item's digest.
        counts: what a reader should see, such as ``cache_hits``.
    """

    tokens: pd.DataFrame
    values: np.ndarray
    refusals: tuple[Refusal, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class EncodeContext:
    """What ``encode`` may use besides the events."""

    config: ModalityConfig
    opener: Opener
    cache_dir: Path
    batch_size: int
    progress: Progress


@dataclass(frozen=True)
class Lazy:
    """A function that is imported when it is first called, so that the table stays light.

    Attributes:
        module: full name of the module, which may import torch or a file-format library.
        function: name of the function in it.
        extra: the dependency group to name where a package is missing.
    """

    module: str
    function: str
    extra: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it.

        Raises:
            MissingExtraError: a package that it needs is not installed.
        """
        try:
            return getattr(import_module(self.module), self.function)(*args, **kwargs)
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"{self.module} needs {error.name}, which is not installed: "
                f"pip install 'clinimm[{self.extra}]'."
            ) from error


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
            nothing: they have no rows and stand in ``Encoded.refusals``.
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
