"""FHIR R4 files as facts: bundles, single resources and bulk NDJSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from clinimm.core.errors import InputRejected
from clinimm.modalities.ehr.codes import code_of
from clinimm.modalities.ehr.collect import Collector, Resource, item_of
from clinimm.modalities.ehr.fhir_time import Clock
from clinimm.modalities.ehr.json_files import is_ndjson, read_document, read_lines
from clinimm.modalities.ehr.resources import read_resource
from clinimm.modalities.ehr.validate import problem_of, sampled
from clinimm.modality import Scan, rules_of

if TYPE_CHECKING:
    from clinimm.sources.base import Source, SourceFile

_SUFFIXES = (".json", ".ndjson", ".jsonl")
_MAX_BUNDLES_IN_BUNDLES = 3
_EXPORT = "export FHIR R4 resources, a Bundle, or NDJSON with one resource a line"


def accepts(path: str, head: bytes) -> bool:
    """Whether a file is JSON by its name, or FHIR JSON by its first bytes."""
    return path.lower().endswith(_SUFFIXES) or (
        head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b'"resourceType"' in head
    )


def scan(source: Source, file: SourceFile) -> Scan:
    """Read one file.

    Raises:
        InputRejected: the file as a whole is not FHIR JSON.
    """
    rules = rules_of(source)
    collector = Collector(file.path, Clock(rules.timezone), rules.last_updated_is_change)
    reader = _Reader(collector, rules.validate_fhir)
    if is_ndjson(file.path, _head(source, file)):
        reader.lines(source, file)
    else:
        reader.document(read_document(source.read(file.path)))
    return collector.scan()


class _Reader:
    """Walks files, bundles and lines, and hands each resource on."""

    def __init__(self, collector: Collector, validate: Literal["sample", "all", "none"]) -> None:
        self.collector = collector
        self.validate = validate

    def document(self, value: Any) -> None:
        """One JSON value that is a whole file."""
        self._check(value)
        if value["resourceType"] == "Bundle":
            self._bundle(value, 1)
        else:
            self.resource(value)

    def lines(self, source: Source, file: SourceFile) -> None:
        """NDJSON. The first resource is validated unless validation is off."""
        first, found = True, False
        for number, value in read_lines(source, file):
            try:
                if isinstance(value, InputRejected):
                    raise value
                self._check(value)
                found = True
                if value["resourceType"] == "Bundle":
                    self._bundle(value, 1)
                else:
                    self.resource(value, first)
            except InputRejected as refusal:
                self.collector.refuse(f"line {number}", refusal.code, refusal.reason, refusal.remedy)
            first = False
        if not found:
            raise InputRejected("not-fhir", "no line holds a FHIR resource", _EXPORT)

    def resource(self, resource: Resource, must: bool = False) -> None:
        """One resource. An invalid one is refused, or counted where only a sample is looked at."""
        collector = self.collector
        if self.validate != "none" and (must or self.validate == "all" or sampled(resource)):
            collector.dropped["(validated)"] += 1
            problem = problem_of(resource)
            if problem is not None and self.validate == "all":
                collector.refuse(
                    item_of(resource),
                    "invalid-fhir",
                    problem,
                    "correct the export, or set validate_fhir: sample",
                )
                return
            if problem is not None:
                collector.dropped["(invalid in sample)"] += 1
        try:
            read_resource(collector, resource)
        except (AttributeError, TypeError, KeyError, IndexError) as error:
            # FHIR says what type each element has; here one has another.
            collector.refuse(
                item_of(resource),
                "malformed-resource",
                f"an element is not of the type that FHIR gives it ({type(error).__name__})",
                "validate the export against FHIR R4",
            )

    def _check(self, value: Any) -> None:
        if isinstance(value, list):
            raise InputRejected("not-fhir", "an array at the top level is not FHIR", _EXPORT)
        if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
            raise InputRejected("not-fhir", "there is no resourceType", _EXPORT)

    def _bundle(self, bundle: Resource, depth: int) -> None:
        entries = bundle.get("entry")
        if not isinstance(entries, list) or not entries:
            raise InputRejected(
                "empty-bundle", "the Bundle has no entry, so there are no patients in it", "export it again"
            )
        if depth > _MAX_BUNDLES_IN_BUNDLES:
            raise InputRejected("nested-too-deep", "bundles lie in bundles", _EXPORT)
        resources = [self._entry(entry) for entry in entries]
        for resource in resources:
            if resource is None:
                self.collector.dropped["entry-without-resource"] += 1
            elif resource["resourceType"] == "Bundle":
                self._bundle(resource, depth + 1)
            else:
                self.resource(resource)

    def _entry(self, entry: Any) -> Resource | None:
        """The entry's resource; its names and any medication code are noted for later references."""
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
            return None
        kind, url = resource["resourceType"], entry.get("fullUrl")
        if isinstance(url, str):
            if not resource.get("id"):
                resource["id"] = url.rpartition("/")[2].rpartition(":")[2]
            self.collector.aliases[url] = item_of(resource)
        if kind == "Medication":
            self.collector.medications[item_of(resource)] = (
                code_of(resource.get("code")) or "FHIR//Medication"
            )
        return resource


def _head(source: Source, file: SourceFile) -> bytes:
    if file.path.lower().endswith((".ndjson", ".jsonl")):
        return b""
    return source.read(file.path)[: 1 << 16]
