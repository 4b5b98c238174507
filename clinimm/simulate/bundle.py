"""The two ways in which the record leaves a hospital: NDJSON bulk export and Bundles."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

from clinimm.simulate.identity import Ids

_SERVER = "https://ehr.clinimm.example/fhir"


def ndjson_lines(resources: Iterable[dict[str, Any]]) -> dict[str, bytes]:
    """Resource type -> its resources, one line each (Bulk Data Access, section on output files)."""
    lines: dict[str, list[str]] = {}
    for resource in resources:
        lines.setdefault(resource["resourceType"], []).append(_compact(resource) + "\n")
    return {kind: "".join(each).encode("utf-8") for kind, each in lines.items()}


def bundle_bytes(resources: list[dict[str, Any]], ids: Ids, transaction: bool) -> bytes:
    """One patient's record as a Bundle.

    Args:
        resources: the record; repetitions are left out, since a fullUrl is unique (FHIR bdl-7).
        ids: makes the ``urn:uuid`` names.
        transaction: a transaction whose resources refer to each other by ``urn:uuid``, else a
            collection with absolute URLs and relative references.
    """
    unique = {f"{r['resourceType']}/{r['id']}": copy.deepcopy(r) for r in resources}
    urls = {name: f"urn:uuid:{ids.uuid(name)}" if transaction else f"{_SERVER}/{name}" for name in unique}
    entries = [_entry(urls[name], resource, transaction) for name, resource in unique.items()]
    if transaction:
        _point_to(entries, urls)
    kind = "transaction" if transaction else "collection"
    bundle = {"resourceType": "Bundle", "id": ids.uuid("bundle"), "type": kind, "entry": entries}
    return (_compact(bundle) + "\n").encode("utf-8")


def _entry(url: str, resource: dict[str, Any], transaction: bool) -> dict[str, Any]:
    entry = {"fullUrl": url, "resource": resource}
    if transaction:
        entry["request"] = {"method": "POST", "url": resource["resourceType"]}
    return entry


def _point_to(node: Any, urls: dict[str, str]) -> None:
    """Replace every reference to a resource of the bundle by its fullUrl."""
    if isinstance(node, list):
        for child in node:
            _point_to(child, urls)
    elif isinstance(node, dict):
        if node.get("reference") in urls:
            node["reference"] = urls[node["reference"]]
        for child in node.values():
            _point_to(child, urls)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
