"""Facts whose subject is known, column by column in the form of ``events.parquet``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from clinimm.ingest.duplicates import NEVER, REVISION_FLAGS
from clinimm.ingest.people import Links
from clinimm.ingest.scrub import Scrubber
from clinimm.ingest.shard import KnownFile
from clinimm.ingest.tables import EVENT_SCHEMA
from clinimm.sources.base import Opener


@dataclass(frozen=True)
class Settled:
    """Facts that stay.

    Attributes:
        facts: their rows.
        file: (row,) number of the file.
        subject: (row,) position of the subject in ``ids``.
        clash: (row,) whether the object's unique id names another file too.
        until_us: (row,) when it was taken back or replaced, or ``duplicates.NEVER``.
        revision: (row,) ``duplicates.REVISED``, ``UNDATED`` or 0.
        ids: subject ids.
    """

    facts: pa.Table
    file: np.ndarray
    subject: np.ndarray
    clash: np.ndarray
    until_us: np.ndarray
    revision: np.ndarray
    ids: Sequence[str]


def event_columns(
    settled: Settled,
    files: Sequence[KnownFile],
    source_of: Sequence[int],
    sites: Sequence[str | None],
    now_us: int,
    links: Links,
    opener: Opener,
) -> tuple[pa.Table, int]:
    """The columns of events plus ``instance``, and how many texts had something to clean."""
    facts, file = settled.facts, settled.file
    texts, cleaned = _cleaned_texts(settled, links)
    is_file = facts["is_file"].to_numpy(zero_copy_only=False)
    uris = _of_files(file, is_file, lambda k: opener.seal(source_of[k], files[k].path))
    digests = _of_files(file, is_file, lambda k: files[k].digest)
    notes = pc.equal(facts["modality"], "notes").to_numpy(zero_copy_only=False) & ~is_file
    for row in np.flatnonzero(notes):
        if texts[row] is not None:
            digests[row] = hashlib.sha256(str(texts[row]).encode("utf-8")).hexdigest()
    subject_ids = pa.array(settled.ids, pa.string()).take(pa.array(settled.subject))
    columns = {
        "subject_id": subject_ids,
        "time": facts["time_us"].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
        "text_value": pa.array(texts, pa.string()),
        "encounter_id": _hashed_encounters(settled, opener),
        "uri": pa.array(uris, pa.string()),
        "digest": pa.array(digests, pa.string()),
        "flags": _flags(settled, now_us),
        "attributes": _with_site(facts["attributes"], file, source_of, sites),
        "until": _moments(settled.until_us),
    }
    arrays = [
        columns[name] if name in columns else facts[name].cast(EVENT_SCHEMA.field(name).type)
        for name in EVENT_SCHEMA.names
    ]
    return pa.table(arrays, schema=EVENT_SCHEMA).append_column("instance", facts["instance"]), cleaned


def _cleaned_texts(settled: Settled, links: Links) -> tuple[np.ndarray, int]:
    """(row,) the texts without what names their patient; each pair of subject and text once."""
    column = settled.facts["text_value"].combine_chunks().dictionary_encode()
    words = column.dictionary.to_pylist()
    codes = np.asarray(column.indices.fill_null(-1)).astype(np.int64)
    rows = np.flatnonzero(codes >= 0)
    texts = np.full(len(codes), None, dtype=object)
    pairs, which = np.unique(settled.subject[rows] * max(1, len(words)) + codes[rows], return_inverse=True)
    results = np.empty(len(pairs), dtype=object)
    scrubber, owner, cleaned = Scrubber((), None), -1, 0
    for number, pair in enumerate(pairs):
        subject, text = divmod(int(pair), max(1, len(words)))
        if subject != owner:
            person = links.people[settled.ids[subject]]
            scrubber, owner = Scrubber(person.words, person.birth_date), subject
        results[number] = scrubber.clean(words[text])
        cleaned += results[number] != words[text]
    if len(rows):
        texts[rows] = results[which.reshape(-1)]
    return texts, cleaned


def _of_files(file: np.ndarray, is_file: np.ndarray, value: Callable[[int], str]) -> np.ndarray:
    """(row,) a value of the row's file where the row stands for a whole file, else None."""
    found = np.full(len(file), None, dtype=object)
    known: dict[int, str] = {}
    for row in np.flatnonzero(is_file):
        number = int(file[row])
        if number not in known:
            known[number] = value(number)
        found[row] = known[number]
    return found


def _hashed_encounters(settled: Settled, opener: Opener) -> pa.Array:
    """Keyed hashes: the raw encounter id is an identifier too, unique within its subject only."""
    column = settled.facts["encounter"].combine_chunks().dictionary_encode()
    names = column.dictionary.to_pylist()
    codes = np.asarray(column.indices.fill_null(-1)).astype(np.int64)
    rows = np.flatnonzero(codes >= 0)
    found = np.full(len(codes), None, dtype=object)
    pairs, which = np.unique(settled.subject[rows] * max(1, len(names)) + codes[rows], return_inverse=True)
    hashes = np.empty(len(pairs), dtype=object)
    for number, pair in enumerate(pairs):
        subject, name = divmod(int(pair), len(names))
        hashes[number] = opener.pseudonymiser.hash("encounter", f"{settled.ids[subject]}|{names[name]}")
    if len(rows):
        found[rows] = hashes[which.reshape(-1)]
    return pa.array(found, pa.string())


def _moments(until_us: np.ndarray) -> pa.Array:
    """Microseconds as times; null where there is none."""
    return pa.array(until_us, pa.int64(), mask=until_us == NEVER).cast(pa.timestamp("us", "UTC"))


def _flags(settled: Settled, now_us: int) -> pa.Array:
    """The readers' flags, plus ``future``, ``duplicate_uid`` and those of a revision."""
    flags = settled.facts["flags"].combine_chunks().cast(pa.string())
    future = settled.facts["time_us"].to_numpy() > now_us
    odd = np.flatnonzero(future | settled.clash | (settled.revision > 0))
    if not len(odd):
        return flags
    values = np.array(flags.to_pylist(), dtype=object)
    for row in odd:
        found = set(values[row].split(",")) if values[row] else set()
        found |= {"future"} if future[row] else set()
        found |= {"duplicate_uid"} if settled.clash[row] else set()
        found |= {REVISION_FLAGS[settled.revision[row]]} if settled.revision[row] else set()
        values[row] = ",".join(sorted(found))
    return pa.array(values, pa.string())


def _with_site(
    column: pa.ChunkedArray, file: np.ndarray, source_of: Sequence[int], sites: Sequence[str | None]
) -> pa.Array:
    """Attributes with the source's site where the file states none; each distinct value once."""
    plain = column.combine_chunks().cast(pa.string())
    if not any(sites):
        return plain
    encoded = plain.dictionary_encode()
    values = [*encoded.dictionary.to_pylist(), None]
    codes = np.asarray(encoded.indices.fill_null(len(values) - 1)).astype(np.int64)
    source = np.asarray(source_of, dtype=np.int64)[file]
    pairs, which = np.unique(source * len(values) + codes, return_inverse=True)
    changed = [_site_added(values[pair % len(values)], sites[pair // len(values)]) for pair in pairs]
    return pa.array(changed, pa.string()).take(pa.array(which.reshape(-1)))


def _site_added(attributes: str | None, site: str | None) -> str | None:
    if site is None:
        return attributes
    found = orjson.loads(attributes) if attributes else {}
    if not found.get("site"):
        found["site"] = site
    return orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode()
