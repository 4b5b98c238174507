"""The fact: an event whose subject is not linked yet, alone and by the million.

``Fact`` is what a reader writes when it has few; ``FactRows`` holds the same as plain tuples, for
readers of large files, and looks like a sequence of ``Fact`` to everybody else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, overload

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


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


class Row(NamedTuple):
    """A fact as ingest keeps it; ``Fact`` with its values already in the form of the tables.

    Attributes:
        reference: ``Patient/...``, or None where ``identifier`` says who it is.
        issuer, identifier: the other way to say it.
        time_us: microseconds since 1970, UTC.
        flags: comma-separated, or None. ``attributes``: a JSON object, or None.
        code: None withdraws ``instance``: the record says that it was entered in error.
        version_us: when this version of the object was recorded, microseconds since 1970, or None.
        copy: the number of the object within its file; rows of one object share it.
    """

    reference: str | None
    issuer: str | None
    identifier: str | None
    time_us: int
    code: str | None
    modality: str
    category: str
    numeric_value: float | None
    unit: str | None
    text_value: str | None
    encounter: str | None
    flags: str | None
    attributes: str | None
    age_years: float | None
    instance: str | None
    is_file: bool
    version_us: int | None
    copy: int


class FactRows(Sequence[Fact]):
    """Many facts as tuples in the order of ``Row``: a tenth of the cost of as many objects.

    >>> rows = FactRows([row_of(Fact((None, "7"), _EPOCH, "LOINC//8867-4", "ehr", "vital-signs"), 0)])
    >>> rows[0].patient
    (None, '7')
    """

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Fact: ...
    @overload
    def __getitem__(self, index: slice) -> FactRows: ...
    def __getitem__(self, index: int | slice) -> Fact | FactRows:
        if isinstance(index, slice):
            return FactRows(self.rows[index])
        return fact_of(Row(*self.rows[index]))

    def __iter__(self) -> Iterator[Fact]:
        return (fact_of(Row(*row)) for row in self.rows)


def row_of(fact: Fact, copy: int) -> Row:
    """A fact as a row; ``copy`` numbers the object within its file."""
    stated = isinstance(fact.patient, str)
    issuer, identifier = (None, None) if isinstance(fact.patient, str) else fact.patient
    return Row(
        reference=str(fact.patient) if stated else None,
        issuer=issuer,
        identifier=identifier,
        time_us=microseconds(fact.time),
        code=fact.code,
        modality=fact.modality,
        category=fact.category,
        numeric_value=fact.numeric_value,
        unit=fact.unit,
        text_value=fact.text_value,
        encounter=fact.encounter,
        flags=",".join(sorted(fact.flags)) or None,
        attributes=json.dumps(dict(fact.attributes), sort_keys=True) if fact.attributes else None,
        age_years=fact.age_years,
        instance=fact.instance,
        is_file=fact.is_file,
        version_us=None,
        copy=copy,
    )


def fact_of(row: Row) -> Fact:
    """A row as a fact."""
    return Fact(
        patient=row.reference if row.identifier is None else (row.issuer, row.identifier),  # type: ignore[arg-type]  # one of the two is always stated
        time=_EPOCH + timedelta(microseconds=row.time_us),
        code=row.code or "",
        modality=row.modality,
        category=row.category,
        numeric_value=row.numeric_value,
        unit=row.unit,
        text_value=row.text_value,
        encounter=row.encounter,
        flags=tuple(row.flags.split(",")) if row.flags else (),
        attributes=json.loads(row.attributes) if row.attributes else {},
        age_years=row.age_years,
        instance=row.instance,
        is_file=row.is_file,
    )


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of an aware time.

    Raises:
        ValueError: the time states no zone, so that nobody can say when it was.
    """
    if moment.tzinfo is None:
        raise ValueError("a fact's time must state its time zone")
    return (moment - _EPOCH) // _MICROSECOND
