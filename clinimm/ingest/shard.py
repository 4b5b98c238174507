"""Shards: what a batch of files gave, sealed on disk, so that no file is read twice.

A shard holds identifiers, names and whole notes, which linkage needs again in every later run.
So all of it is encrypted (AES-SIV, RFC 5297, under a key derived from the pseudonym key): without
the key it is noise. Equal content gives equal bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
import pyarrow as pa

from clinimm.core.errors import Refusal
from clinimm.core.fact import FactRows, Row, row_of
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.ingest.reading import Reading
from clinimm.modality import Identity

_TYPES: dict[str, pa.DataType] = {
    "time_us": pa.int64(),
    "numeric_value": pa.float64(),
    "age_years": pa.float64(),
    "is_file": pa.bool_(),
    "version_us": pa.int64(),
    "copy": pa.int32(),
}
#: Columns of the facts of a shard: those of ``Row``, and which of the shard's files it came from.
FACT_SCHEMA = pa.schema(
    [(name, _TYPES.get(name, pa.large_string())) for name in Row._fields] + [("file", pa.int32())]
)
_LENGTH_BYTES = 8
_ROWS_A_STEP = 50_000


@dataclass(frozen=True)
class KnownFile:
    """A file that was read, and all that it gave except its facts.

    Attributes:
        source: label of its source; ``path``, ``size``, ``modified_ns`` as the source listed it.
        digest: SHA-256 of its bytes.
        modality: which modality read it, or None.
    """

    source: str
    path: str
    size: int
    modified_ns: int
    digest: str
    modality: str | None
    identities: tuple[Identity, ...]
    refusals: tuple[Refusal, ...]
    dropped: dict[str, int]


@dataclass(frozen=True)
class Shard:
    """A batch of files; ``facts["file"]`` counts them."""

    files: tuple[KnownFile, ...]
    facts: pa.Table


def shard_of(source: str, readings: Sequence[Reading]) -> Shard:
    """Readings of one source as a shard."""
    return Shard(
        tuple(
            KnownFile(
                source,
                reading.file.path,
                reading.file.size,
                reading.file.modified_ns,
                reading.digest,
                reading.modality,
                reading.scan.identities,
                reading.scan.refusals,
                dict(reading.scan.dropped),
            )
            for reading in readings
        ),
        _fact_table(readings),
    )


def seal_shard(shard: Shard, pseudonymiser: Pseudonymiser) -> bytes:
    """A shard as encrypted bytes."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, FACT_SCHEMA, options=options) as writer:
        writer.write_table(shard.facts)
    files = orjson.dumps(shard.files)
    plain = len(files).to_bytes(_LENGTH_BYTES, "big") + files + sink.getvalue().to_pybytes()
    return _cipher(pseudonymiser.key).encrypt(plain, None)


def unseal_shard(sealed: bytes, pseudonymiser: Pseudonymiser) -> Shard | None:
    """The shard; None where it was sealed under another key or is damaged."""
    from cryptography.exceptions import InvalidTag

    try:
        plain = _cipher(pseudonymiser.key).decrypt(sealed, None)
    except (InvalidTag, ValueError):
        return None
    stop = _LENGTH_BYTES + int.from_bytes(plain[:_LENGTH_BYTES], "big")
    files = tuple(_known_file(item) for item in orjson.loads(plain[_LENGTH_BYTES:stop]))
    with pa.ipc.open_stream(pa.py_buffer(plain)[stop:]) as reader:
        return Shard(files, reader.read_all())


def _fact_table(readings: Sequence[Reading]) -> pa.Table:
    """Rows become columns in steps, so that few tuples are held beside them."""
    batches: list[pa.RecordBatch] = []
    rows: list[tuple[Any, ...]] = []
    numbers: list[int] = []
    for number, reading in enumerate(readings):
        facts = reading.scan.facts
        if isinstance(facts, FactRows):
            rows += facts.rows
        else:
            rows += [row_of(fact, copy) for copy, fact in enumerate(facts)]
        numbers += [number] * len(facts)
        if len(rows) > _ROWS_A_STEP:
            batches.append(_columns(rows, numbers))
            rows, numbers = [], []
    if rows:
        batches.append(_columns(rows, numbers))
    return pa.Table.from_batches(batches, FACT_SCHEMA)


def _columns(rows: list[tuple[Any, ...]], numbers: list[int]) -> pa.RecordBatch:
    columns = [*zip(*rows, strict=True), numbers]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, FACT_SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=FACT_SCHEMA)


def _known_file(item: dict[str, Any]) -> KnownFile:
    item["identities"] = tuple(_identity(one) for one in item["identities"])
    item["refusals"] = tuple(Refusal(**one) for one in item["refusals"])
    return KnownFile(**item)


def _identity(item: dict[str, Any]) -> Identity:
    item["keys"] = tuple((issuer, value) for issuer, value in item["keys"])
    item["names"] = tuple(item["names"])
    return Identity(**item)


@lru_cache(maxsize=4)
def _cipher(key: bytes):  # type: ignore[no-untyped-def]  # cryptography is imported on first use
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(hmac.new(key, b"clinimm ingest state", hashlib.sha512).digest())
