"""Linked facts of all files become the table of events: settled, cleaned, placed in order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from clinimm.core.errors import Refusal
from clinimm.ingest.columns import Settled, event_columns
from clinimm.ingest.demographics import demographics
from clinimm.ingest.duplicates import settle
from clinimm.ingest.people import Links, Name
from clinimm.ingest.shard import KnownFile
from clinimm.ingest.tables import EVENT_SCHEMA
from clinimm.sources.base import Opener

_REASONS: dict[str, tuple[str, str]] = {
    "orphan": ("no Patient resource has this reference", "export the Patient resources too"),
    "identity-conflict": (
        "birth date or sex contradicts another record with the same identifier",
        "find out whether these are two patients, correct the identifier or the data, and ingest again",
    ),
    "ambiguous-identifier": (
        "the identifier states no issuer and belongs to more than one patient",
        "export the issuer of the patient identifier",
    ),
    "no-identifier": (
        "there is no usable patient identifier",
        "export the object with its patient identifier",
    ),
}


@dataclass(frozen=True)
class Inputs:
    """All that was read, in order of source and path.

    Attributes:
        files: the files; ``facts["file"]`` counts them.
        source_of: position in the pipeline file of each file's source.
        facts: columns of ``shard.FACT_SCHEMA``, in order of file.
        sites: site of each source, or None.
        now_us: the reference time; what is later is flagged ``future``.
    """

    files: Sequence[KnownFile]
    source_of: Sequence[int]
    facts: pa.Table
    sites: Sequence[str | None]
    now_us: int


@dataclass
class Assembled:
    """The events, and what did not become one."""

    events: pa.Table
    refusals: list[Refusal] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    cleaned_texts: int = 0


def assemble(inputs: Inputs, links: Links, opener: Opener) -> Assembled:
    """Make the table of events."""
    facts = inputs.facts
    names, which = unique_names(facts)
    subjects, problems = _resolve(inputs, links, names)
    subject = subjects[which]
    refusals = _refusals(inputs, facts, which, problems)
    known = subject >= 0
    facts, subject = facts.filter(pa.array(known)), subject[known]
    file = facts["file"].to_numpy()
    found = settle(facts, subject, _contents(inputs)[file])
    keep = found.keep
    place = facts.schema.get_field_index("time_us")
    facts = facts.set_column(place, "time_us", pa.array(found.time_us)).filter(pa.array(keep))
    settled = Settled(
        facts,
        file[keep],
        subject[keep],
        found.clash[keep],
        found.until_us[keep],
        found.revision[keep],
        list(links.people),
    )
    events, cleaned = event_columns(
        settled, inputs.files, inputs.source_of, inputs.sites, inputs.now_us, links, opener
    )
    table = _sorted(events, _demographic_rows(links, settled))
    return Assembled(table, refusals, found.dropped, cleaned)


def unique_names(facts: pa.Table) -> tuple[list[Name], np.ndarray]:
    """Every way in which a file names a patient, and (row,) which of them each row has."""
    code = facts["file"].to_numpy().astype(np.int64)
    for column in ("reference", "issuer", "identifier"):
        encoded = facts[column].combine_chunks().dictionary_encode()
        width = len(encoded.dictionary) + 1
        code = pd.factorize(code * width + np.asarray(encoded.indices.fill_null(width - 1)))[0].astype(
            np.int64
        )
    _, first, which = np.unique(code, return_index=True, return_inverse=True)
    rows = facts.select(["file", "reference", "issuer", "identifier"]).take(pa.array(first))
    columns = [rows[column].to_pylist() for column in rows.column_names]
    return list(zip(*columns, strict=True)), which.reshape(-1)


def _contents(inputs: Inputs) -> np.ndarray:
    """(file,) a number that two files share if and only if their bytes are equal."""
    return pd.factorize(pd.Series([file.digest for file in inputs.files], dtype=object))[0]


def _resolve(inputs: Inputs, links: Links, names: list[Name]) -> tuple[np.ndarray, dict[int, str]]:
    """(name,) position of its subject in ``links.people`` or -1, and the problems of those at -1."""
    position = {subject: number for number, subject in enumerate(links.people)}
    subjects = np.full(max(1, len(names)), -1)
    problems: dict[int, str] = {}
    for number, name in enumerate(names):
        subject, problem = links.find(inputs.source_of[name[0]], name)
        if subject is not None:
            subjects[number] = position[subject]
        else:
            problems[number] = str(problem)
    return subjects, problems


def _refusals(inputs: Inputs, facts: pa.Table, which: np.ndarray, problems: dict[int, str]) -> list[Refusal]:
    """One refusal a file, patient and reason: a million orphans are one line with their number."""
    if not problems:
        return []
    rows = np.flatnonzero(np.isin(which, list(problems)))
    instances = facts["instance"].take(pa.array(rows)).to_pylist()
    items: dict[int, set[str]] = defaultdict(set)
    for row, instance in zip(rows, instances, strict=True):
        items[int(which[row])].add(instance or "file")
    file = facts["file"].to_numpy()
    first = dict(zip(which[rows][::-1], file[rows][::-1], strict=True))
    found = []
    for number, instances_of in sorted(items.items()):
        code = problems[number]
        more = f" and {len(instances_of) - 1} more" if len(instances_of) > 1 else ""
        found.append(
            Refusal(inputs.files[first[number]].path, min(instances_of) + more, code, *_REASONS[code])
        )
    return found


def _demographic_rows(links: Links, settled: Settled) -> pa.Table:
    """Demographic events of every subject that has another event."""
    times = settled.facts["time_us"].to_numpy()
    ages = _stated_ages(settled, times)
    subjects, place = np.unique(settled.subject, return_inverse=True)
    first = np.full(len(subjects), np.iinfo(np.int64).max)
    np.minimum.at(first, place.reshape(-1), times)
    events = [
        event
        for number, moment in zip(subjects.tolist(), first.tolist(), strict=True)
        for event in demographics(links.people[settled.ids[number]], moment, ages.get(number))
    ]
    columns = [
        pa.array([getattr(event, name) for event in events], EVENT_SCHEMA.field(name).type)
        for name in EVENT_SCHEMA.names
    ]
    return pa.table(columns, schema=EVENT_SCHEMA)


def _stated_ages(settled: Settled, times: np.ndarray) -> dict[int, tuple[int, float]]:
    """The earliest age that a file states, a subject."""
    ages = settled.facts["age_years"]
    rows = np.flatnonzero(ages.is_valid().to_numpy(zero_copy_only=False))
    values = ages.take(pa.array(rows)).to_pylist()
    found: dict[int, tuple[int, float]] = {}
    for row, age in zip(rows, values, strict=True):
        candidate = (int(times[row]), float(age))
        number = int(settled.subject[row])
        found[number] = min(found.get(number, candidate), candidate)
    return found


def _sorted(events: pa.Table, demographic: pa.Table) -> pa.Table:
    """By subject, time, code and instance; a subject's demographics come first at their time."""
    number = pa.array(np.arange(events.num_rows, dtype=np.int64))
    last = pa.array(np.arange(demographic.num_rows, dtype=np.int64) - demographic.num_rows)
    whole = pa.concat_tables(
        [
            demographic.append_column(
                "instance", pa.nulls(demographic.num_rows, pa.large_string())
            ).append_column("row", last),
            events.append_column("row", number),
        ]
    )
    keys = [
        ("subject_id", "ascending"),
        ("time", "ascending"),
        ("code", "ascending"),
        ("instance", "ascending"),
        ("row", "ascending"),
    ]
    order = pc.sort_indices(whole, sort_keys=keys)
    return whole.take(order).select(EVENT_SCHEMA.names).combine_chunks()
