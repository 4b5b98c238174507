"""FHIR R4 resources as facts, each at the time at which it became available (decision 0001)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from clinimm.modalities.ehr.codes import code_of, first_code, words_of
from clinimm.modalities.ehr.collect import Collector, Head, Resource, item_of
from clinimm.modalities.ehr.documents import attached_text, document
from clinimm.modalities.ehr.fhir_time import Moment
from clinimm.modalities.ehr.observation import observation
from clinimm.modalities.ehr.patient import patient
from clinimm.modalities.ehr.versions import REVISED, TAKEN_BACK, revised_at, taken_back

#: Statuses of things that are not there yet.
NOT_THERE = frozenset(("draft", "registered", "planned", "preparation", "proposed"))
#: Statuses of things that did not come about after all; an earlier version may have promised them.
_NEVER_THERE = frozenset(("cancelled", "not-done", "nullified"))
#: Statuses that stay, with themselves as a flag.
UNSURE = frozenset(("preliminary", "partial", "superseded"))
#: Orders were there from when they were written until they were cancelled; a cancelled test never was.
_ORDERS = frozenset(("MedicationRequest",))
_VERIFICATION_UNSURE = frozenset(("unconfirmed", "provisional", "differential"))


def read_resource(collector: Collector, resource: Resource) -> None:
    """Turn one resource into facts, or count or refuse it by name."""
    kind = resource["resourceType"]
    reader = READERS.get(kind)
    if reader is not None:
        reader(collector, resource)
    elif kind == "Medication":
        pass  # the reader has noted its code for the requests that name it
    else:
        collector.dropped[f"not-read:{kind}"] += 1


def _checked(
    collector: Collector, resource: Resource, subject: str = "subject"
) -> tuple[Head, list[str]] | None:
    """The head and the flags of a resource that stands; None where its status says otherwise."""
    head = collector.head(resource, subject)
    if head is None:
        return None
    status = resource.get("status")
    if status in TAKEN_BACK or (status == "cancelled" and resource["resourceType"] in _ORDERS):
        known = taken_back(collector, head, status)
        return (known, []) if known is not None else None
    if status in NOT_THERE or status in _NEVER_THERE:
        collector.dropped[f"status:{status}"] += 1
        if status in _NEVER_THERE:
            collector.withdraw(head)
        return None
    return head, [str(status)] if status in UNSURE else []


def _plain(collector: Collector, resource: Resource, concept: Any, when: Moment | None, need: str) -> None:
    """The common case: one resource, one coded fact."""
    found = _checked(collector, resource)
    if found is None:
        return
    if when is None:
        refuse_timeless(collector, resource, need)
        return
    head, flags = found
    code = code_of(concept)
    if code is None:
        flags.append("no_code")
        code = f"FHIR//{resource['resourceType']}"
    collector.emit(head, when, code, category_of(resource), flags=flags)


def condition(collector: Collector, resource: Resource) -> None:
    """A diagnosis, available when it was recorded; its onset is earlier and proves nothing."""
    found = _checked(collector, resource)
    if found is None:
        return
    head, flags = found
    verification = first_code(resource.get("verificationStatus"))
    if verification in TAKEN_BACK:
        known = taken_back(collector, head, verification)
        if known is None:
            return
        head = known
    when = collector.clock.read(resource.get("recordedDate")) or _asserted(collector, resource)
    if when is None:
        refuse_timeless(collector, resource, "recordedDate")
        return
    if verification in _VERIFICATION_UNSURE:
        flags.append("unconfirmed")
    code = code_of(resource.get("code")) or "FHIR//Condition"
    collector.emit(head, when, code, category_of(resource), flags=flags)


def medication_request(collector: Collector, resource: Resource) -> None:
    """A prescription, available when it was written."""
    if resource.get("doNotPerform") is True or resource.get("intent") in ("proposal", "plan"):
        collector.dropped["not-ordered:MedicationRequest"] += 1
        return
    concept = resource.get("medicationCodeableConcept")
    if concept is None:
        concept = _medication(collector, resource)
    when = collector.clock.read(resource.get("authoredOn"))
    _plain(collector, resource, concept, when, "authoredOn")


def procedure(collector: Collector, resource: Resource) -> None:
    """A procedure, available when it was over."""
    period = resource.get("performedPeriod")
    period = period if isinstance(period, dict) else {}
    when = collector.clock.latest(resource.get("performedDateTime"), period.get("end"), period.get("start"))
    _plain(collector, resource, resource.get("code"), when, "performedDateTime or performedPeriod")


def encounter(collector: Collector, resource: Resource) -> None:
    """A stay: its start is one fact, its end, known later, another."""
    found = _checked(collector, resource)
    if found is None:
        return
    head, flags = found
    head = head._replace(encounter=head.instance)
    period = resource.get("period")
    period = period if isinstance(period, dict) else {}
    start, end = collector.clock.read(period.get("start")), collector.clock.read(period.get("end"))
    if start is None:
        refuse_timeless(collector, resource, "period.start")
        return
    kind = resource.get("class")
    words = str(kind["code"]) if isinstance(kind, dict) and kind.get("code") else None
    site = _site(resource)
    attributes = orjson.dumps({"site": site}).decode() if site else None
    collector.emit(
        head, start, "FHIR//Encounter", "encounter", text=words, flags=flags, attributes=attributes
    )
    if end is not None:
        collector.emit(
            head, max(start, end), "FHIR//EncounterEnd", "encounter", text=words, attributes=attributes
        )


def allergy(collector: Collector, resource: Resource) -> None:
    """An allergy, available when it was recorded."""
    renamed = {**resource, "subject": resource.get("patient")}
    verification = first_code(resource.get("verificationStatus"))
    if verification in TAKEN_BACK:
        renamed["status"] = verification
    when = collector.clock.read(resource.get("recordedDate"))
    _plain(collector, renamed, resource.get("code"), when, "recordedDate")


def immunization(collector: Collector, resource: Resource) -> None:
    """A vaccination, available when it was recorded, else when it was given."""
    when = collector.clock.latest(resource.get("recorded"), resource.get("occurrenceDateTime"))
    renamed = {**resource, "subject": resource.get("patient")}
    _plain(collector, renamed, resource.get("vaccineCode"), when, "recorded or occurrenceDateTime")


def diagnostic_report(collector: Collector, resource: Resource) -> None:
    """A report: the fact that it exists, its conclusion, and its text as a note where it has one."""
    found = _checked(collector, resource)
    if found is None:
        return
    head, flags = found
    when = _issued(collector, resource, flags)
    if when is None:
        refuse_timeless(collector, resource, "issued")
        return
    code = code_of(resource.get("code")) or "FHIR//DiagnosticReport"
    conclusion = resource.get("conclusion")
    text = conclusion if isinstance(conclusion, str) else None
    collector.emit(head, when, code, category_of(resource), text=text, flags=flags)
    forms = resource.get("presentedForm")
    if isinstance(forms, list) and forms:
        body = attached_text(collector, resource, forms)
        if body is not None:
            collector.emit(
                head, when, code, "diagnosticreport", text=body[0], flags=flags + body[1], modality="notes"
            )


def imaging_study(collector: Collector, resource: Resource) -> None:
    """That a study was made; its images come from the DICOM files."""
    found = _checked(collector, resource)
    if found is None:
        return
    when = collector.clock.read(resource.get("started"))
    if when is None:
        refuse_timeless(collector, resource, "started")
        return
    series = resource.get("series")
    kinds = {
        str(part["modality"]["code"])
        for part in (series if isinstance(series, list) else ())
        if isinstance(part, dict) and isinstance(part.get("modality"), dict) and part["modality"].get("code")
    }
    text = ",".join(sorted(kinds)) or None
    collector.emit(found[0], when, "FHIR//ImagingStudy", "imagingstudy", text=text, flags=found[1])


def _document(collector: Collector, resource: Resource) -> None:
    found = _checked(collector, resource)
    if found is not None:
        document(collector, resource, *found)


def _observation(collector: Collector, resource: Resource) -> None:
    found = _checked(collector, resource)
    if found is None:
        return
    when = _issued(collector, resource, found[1])
    if when is None:
        refuse_timeless(collector, resource, "issued or effectiveDateTime")
        return
    observation(collector, resource, *found, when, category_of(resource))


def _issued(collector: Collector, resource: Resource, flags: list[str]) -> Moment | None:
    """When this version of a result or a report was there; flags one that was changed."""
    true_at = collector.clock.latest(*effective(resource))
    issued = collector.clock.read(resource.get("issued"))
    when = collector.clock.latest(resource.get("issued"), *effective(resource))
    if resource.get("status") not in REVISED:
        return when
    # An `issued` that only repeats when it was true does not say when it was changed.
    said = issued if issued is not None and (true_at is None or issued[0] > true_at[0]) else None
    return revised_at(collector, resource, flags, when, said)


READERS: dict[str, Callable[[Collector, Resource], None]] = {
    "Patient": patient,
    "Observation": _observation,
    "Condition": condition,
    "MedicationRequest": medication_request,
    "Procedure": procedure,
    "Encounter": encounter,
    "AllergyIntolerance": allergy,
    "Immunization": immunization,
    "DiagnosticReport": diagnostic_report,
    "ImagingStudy": imaging_study,
    "DocumentReference": _document,
}


def effective(resource: Resource) -> tuple[Any, ...]:
    """The times at which an Observation or a report was true; it cannot be known before."""
    single = resource.get("effectiveDateTime")
    if single is not None:
        return (single,)
    period = resource.get("effectivePeriod")
    if isinstance(period, dict):
        return period.get("start"), period.get("end")
    return (resource.get("effectiveInstant"),)


def category_of(resource: Resource) -> str:
    """The code of the first category, else the resource type in lower case."""
    category = resource.get("category")
    found = first_code(category) if category else None
    return found or str(resource["resourceType"]).lower()


def refuse_timeless(collector: Collector, resource: Resource, need: str) -> None:
    """A fact without a time cannot be placed before an index time (law 1)."""
    collector.refuse(
        item_of(resource), "no-time", f"no usable time in {need}", f"export the resource with {need}"
    )


def _asserted(collector: Collector, resource: Resource) -> Moment | None:
    for extension in resource.get("extension") or ():
        if isinstance(extension, dict) and str(extension.get("url")).endswith("condition-assertedDate"):
            return collector.clock.read(extension.get("valueDateTime"))
    return None


def _medication(collector: Collector, resource: Resource) -> Any:
    reference = resource.get("medicationReference")
    raw = reference.get("reference") if isinstance(reference, dict) else None
    for inner in resource.get("contained") or ():
        if isinstance(inner, dict) and raw == f"#{inner.get('id')}":
            return inner.get("code")
    code = collector.medications.get(collector.target(reference) or "")
    if code is not None:
        system, _, value = code.partition("//")
        return {"coding": [{"system": system, "code": value}]}
    return {"text": words_of({"text": reference.get("display")})} if isinstance(reference, dict) else None


def _site(resource: Resource) -> str | None:
    provider = resource.get("serviceProvider")
    if not isinstance(provider, dict):
        return None
    name = provider.get("display") or provider.get("reference")
    return str(name) if name else None
