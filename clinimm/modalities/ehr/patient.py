"""Patient resources: who somebody is, which only linkage may know, and the fact of a death."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from clinimm.modalities.ehr.collect import Collector, Head, Resource, plain_reference
from clinimm.modality import Identity

#: Issuer of the key made from a Patient's own logical id. It links nothing across sources.
LOGICAL_ID = "urn:clinimm:logical-id"
_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
_GENDERS = frozenset(("female", "male", "other", "unknown"))
_BIRTH_DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")
_MERGED = frozenset(("replaced-by", "replaces"))


def patient(collector: Collector, resource: Resource) -> None:
    """Add the identity; a dated death is a fact like any other."""
    logical = resource.get("id")
    reference = f"Patient/{logical}" if logical else None
    keys = tuple(_keys(resource))
    if logical:
        keys = (*keys, (LOGICAL_ID, str(logical)))
    if not keys:
        collector.refuse(
            "Patient/?", "no-identifier", "the Patient has neither identifier nor id", "export it with one"
        )
        return
    meta = resource.get("meta")
    version = collector.clock.read(meta.get("lastUpdated")) if isinstance(meta, dict) else None
    race, race_source = _us_core(resource, "race")
    gender = resource.get("gender")
    identity = Identity(
        keys=keys,
        reference=reference,
        birth_date=_birth_date(resource.get("birthDate")),
        sex=None if gender is None else gender if gender in _GENDERS else "unknown",
        race=race,
        ethnicity=_us_core(resource, "ethnicity")[0],
        names=tuple(dict.fromkeys(_names(resource))),
        race_source=race_source,
        version_us=version[0] if version else None,
    )
    collector.identities.append(identity)
    for other in _merged_with(resource):
        collector.identities.append(Identity(keys=keys, reference=other))
    _death(collector, resource, reference, identity.version_us)


def _keys(resource: Resource) -> Iterator[tuple[str | None, str]]:
    """Identifiers, the medical record number first: the first one names the subject."""
    found = [
        item for item in _dicts(resource.get("identifier")) if item.get("value") and item.get("use") != "old"
    ]
    for item in sorted(found, key=_rank):
        system = item.get("system")
        yield (str(system) if system else None, str(item["value"]).strip())


def _rank(identifier: dict[str, Any]) -> int:
    codes = {coding.get("code") for coding in _dicts((identifier.get("type") or {}).get("coding"))}
    if "MR" in codes:
        return 0
    return 1 if not codes else 2


def _birth_date(value: Any) -> str | None:
    from datetime import date

    if not isinstance(value, str) or not _BIRTH_DATE.fullmatch(value):
        return None
    if len(value) == len("2020-01-01"):
        try:
            date.fromisoformat(value)
        except ValueError:
            return None
    return value


def _us_core(resource: Resource, what: str) -> tuple[str | None, str | None]:
    """The US Core race or ethnicity, and which part of the extension said it."""
    for extension in _dicts(resource.get("extension")):
        if extension.get("url") != _US_CORE + what:
            continue
        parts = list(_dicts(extension.get("extension")))
        categories = [
            str((part.get("valueCoding") or {}).get("display") or (part.get("valueCoding") or {}).get("code"))
            for part in parts
            if part.get("url") == "ombCategory" and part.get("valueCoding")
        ]
        if categories:
            return "; ".join(sorted(categories)), "us-core ombCategory"
        for part in parts:
            if part.get("url") == "text" and part.get("valueString"):
                return str(part["valueString"]), "us-core text"
    return None, None


def _names(resource: Resource) -> Iterator[str]:
    """Everything that could name the patient in a note."""
    people = [*_dicts(resource.get("name"))]
    places = [*_dicts(resource.get("address"))]
    lines = [*_dicts(resource.get("telecom"))]
    for contact in _dicts(resource.get("contact")):
        people += _dicts([contact.get("name")])
        places += _dicts([contact.get("address")])
        lines += _dicts(contact.get("telecom"))
    for extension in _dicts(resource.get("extension")):
        if str(extension.get("url")).endswith("mothersMaidenName"):
            yield from str(extension.get("valueString") or "").split()
    for name in people:
        yield from _strings([name.get("family"), *(name.get("given") or ()), name.get("text")])
    for place in places:
        yield from _strings([*(place.get("line") or ()), place.get("city"), place.get("postalCode")])
    for line in lines:
        yield from _strings([line.get("value")])


def _merged_with(resource: Resource) -> Iterator[str]:
    for link in _dicts(resource.get("link")):
        other = (link.get("other") or {}).get("reference")
        if link.get("type") in _MERGED and isinstance(other, str):
            yield plain_reference(other)


def _death(collector: Collector, resource: Resource, reference: str | None, version: int | None) -> None:
    when = collector.clock.read(resource.get("deceasedDateTime"))
    if when is None or reference is None:
        if resource.get("deceasedBoolean") is True or "deceasedDateTime" in resource:
            collector.dropped["death-without-date"] += 1
        return
    collector.copies += 1
    head = Head((reference, None, None), None, f"{reference}/deceased", version, collector.copies)
    collector.emit(head, when, "FHIR//PatientDeceased", "patient", number=1.0)


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    return (item for item in (value if isinstance(value, list) else ()) if isinstance(item, dict))


def _strings(values: Iterable[Any]) -> Iterator[str]:
    return (value.strip() for value in values if isinstance(value, str) and value.strip())
