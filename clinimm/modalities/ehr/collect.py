"""What one FHIR file gives, while it is being read: rows, refusals and counts.

``Collector`` knows nothing of single resource types; ``resources.py`` does. Rows are tuples in the
order of ``core.fact.Row``, because a bulk export has millions of them.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from clinimm.core.errors import Refusal
from clinimm.core.fact import FactRows
from clinimm.modalities.ehr.fhir_time import Clock, Moment
from clinimm.modality import Identity, Scan

Resource = dict[str, Any]
#: reference, issuer, identifier: the first three fields of a row.
Patient = tuple[str | None, str | None, str | None]

#: Refusals of one kind that a file lists one by one.
LISTED = 100
_CONDITIONAL = re.compile(r"Patient\?(?:.*&)?identifier=(?:([^|&]*)\|)?([^|&]+)")
_REFERENCE = re.compile(r"(?:^|/)([A-Za-z]+)/([^/]+)(?:/_history/[^/]+)?$")


class Head(NamedTuple):
    """What every row of one resource shares."""

    patient: Patient
    encounter: str | None
    instance: str | None
    version_us: int | None
    copy: int


@dataclass
class Collector:
    """Gathers what a file says.

    Attributes:
        path: the file, for refusals.
        clock: reads its times.
        aliases: ``urn:uuid:...`` and absolute URLs of a bundle's entries -> ``Type/id``.
        medications: ``Medication/id`` of the file -> its code.
        last_updated_is_change: whether ``meta.lastUpdated`` is when the record changed, and not when it
            was exported.
    """

    path: str
    clock: Clock
    last_updated_is_change: bool = False
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    identities: list[Identity] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    aliases: dict[str, str] = field(default_factory=dict)
    medications: dict[str, str] = field(default_factory=dict)
    copies: int = 0
    _patients: dict[str, Patient | None] = field(default_factory=dict)
    _refused: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _last: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def scan(self) -> Scan:
        """Everything gathered."""
        for kind, item in self._last.items():
            more = self._refused[kind] - LISTED
            self.refusals.append(Refusal(self.path, f"{item} and {more} before it" if more else item, *kind))
        return Scan(
            tuple(self.identities),
            FactRows(self.rows),
            tuple(self.refusals),
            dict(sorted(self.dropped.items())),
        )

    def refuse(self, item: str, code: str, reason: str, remedy: str) -> None:
        """List one item that does not get in; the hundredth of a kind stands for all that follow."""
        kind = (code, reason, remedy)
        self._refused[kind] += 1
        if self._refused[kind] < LISTED:
            self.refusals.append(Refusal(self.path, item, *kind))
        else:
            self._last[kind] = item

    def head(self, resource: Resource, subject: str = "subject") -> Head | None:
        """The shared part of a resource's rows; None, counted or refused, where it has no patient."""
        patient = self._subject(resource, resource.get(subject))
        if patient is None:
            return None
        self.copies += 1
        encounter = resource.get("encounter")
        version = self.version(resource)
        return Head(
            patient,
            self.target(encounter) if isinstance(encounter, dict) else None,
            item_of(resource) if resource.get("id") else None,
            version[0] if version else None,
            self.copies,
        )

    def emit(  # noqa: PLR0913  # they are the columns of a row
        self,
        head: Head,
        when: Moment,
        code: str,
        category: str,
        *,
        number: float | None = None,
        unit: str | None = None,
        text: str | None = None,
        flags: list[str] | None = None,
        attributes: str | None = None,
        modality: str = "ehr",
    ) -> None:
        """Add one fact."""
        if when[1] is not None:
            flags = [*flags, when[1]] if flags else [when[1]]
        joined = None if not flags else flags[0] if len(flags) == 1 else ",".join(sorted(set(flags)))
        patient = head.patient
        self.rows.append(
            (
                patient[0], patient[1], patient[2], when[0], code, modality, category, number, unit, text,
                head.encounter, joined, attributes, None, head.instance, False, head.version_us, head.copy,
            )
        )  # fmt: skip

    def withdraw(self, head: Head) -> None:
        """The record takes this object back: earlier versions end here, or go where nothing dates it."""
        if head.instance is not None:
            self.rows.append(
                (*head.patient, 0, None, "ehr", "", None, None, None, None, None, None, None, head.instance,
                 False, head.version_us, head.copy)
            )  # fmt: skip

    def version(self, resource: Resource) -> Moment | None:
        """When this version of a resource was recorded, or, in many exports, loaded or exported."""
        meta = resource.get("meta")
        return self.clock.read(meta.get("lastUpdated")) if isinstance(meta, dict) else None

    def target(self, reference: Any) -> str | None:
        """The canonical ``Type/id`` of a Reference; None where it names nothing."""
        raw = reference.get("reference") if isinstance(reference, dict) else None
        if not isinstance(raw, str):
            return None
        return self.aliases.get(raw) or plain_reference(raw)

    def _subject(self, resource: Resource, reference: Any) -> Patient | None:
        raw = reference.get("reference") if isinstance(reference, dict) else None
        if isinstance(raw, str):
            if raw in self._patients:
                found = self._patients[raw]
            else:
                found = self._patients[raw] = self._resolve(raw)
            if found is not None:
                return found
            self.dropped["subject-is-no-patient"] += 1
            return None
        logical = reference.get("identifier") if isinstance(reference, dict) else None
        if isinstance(logical, dict) and logical.get("value"):
            return None, logical.get("system"), str(logical["value"])
        self.refuse(
            item_of(resource), "no-subject", "the resource names no patient", "export it with its subject"
        )
        return None

    def _resolve(self, raw: str) -> Patient | None:
        match = _CONDITIONAL.search(raw)
        if match:
            return None, match[1] or None, match[2]
        name = self.aliases.get(raw) or plain_reference(raw)
        kind, _, identifier = name.partition("/")
        if kind == "urn":
            return f"Patient/{identifier}", None, None
        return (name, None, None) if kind == "Patient" else None


def plain_reference(raw: str) -> str:
    """``Type/id`` of a relative, absolute or versioned reference; ``urn/ID`` of a bare urn.

    >>> plain_reference("https://fhir.example/r4/Patient/7/_history/2")
    'Patient/7'
    """
    if raw.startswith("urn:"):
        return "urn/" + raw.rpartition(":")[2]
    match = _REFERENCE.search(raw)
    return f"{match[1]}/{match[2]}" if match else raw


def item_of(resource: Resource) -> str:
    """What a refusal calls a resource."""
    return f"{resource.get('resourceType')}/{resource.get('id', '?')}"
