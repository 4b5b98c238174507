"""Incident records: one file a breach, never changed, each naming the one before by its digest.

A record says when, what breached, by how much and of which model. It holds no pseudonym, no site's patient
and no row: it can lie in a repository. The same evidence is recorded once, however often it is looked at.
That the last record was removed is told by the signed log beside them (``incident_log.py``).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from clinimm.core.chain import GENESIS, Head
from clinimm.core.errors import IntegrityError
from clinimm.core.record import digest_json
from clinimm.monitor.finding import Finding
from clinimm.monitor.incident_log import check_end, write_end

SCHEMA = "clinimm.incident/1"
_SHOWN = (
    "part",
    "about",
    "act",
    "value",
    "low",
    "high",
    "limit",
    "p_value",
    "n",
    "reference_n",
    "estimate",
    "sentence",
)


@dataclass(frozen=True)
class Incident:
    """A record as it lies on the disk.

    Attributes:
        path: of the file.
        number: from 1.
        body: everything but the record's own digest.
        digest: SHA-256 of the body.
    """

    path: Path
    number: int
    body: Mapping[str, Any]
    digest: str


def read_incidents(folder: Path, trusted: Collection[str] = (), kept: Head | None = None) -> list[Incident]:
    """Every record, in order.

    Args:
        folder: of the records.
        trusted: public keys beside this user's own that may have signed the log of the records.
        kept: the log's end as an earlier look saw it.

    Raises:
        IntegrityError: one was changed or is gone, also from the end; names it.
    """
    found = _chained(folder)
    check_end(folder, found, trusted, kept)
    return found


def _chained(folder: Path) -> list[Incident]:
    found: list[Incident] = []
    previous = GENESIS
    for number, path in enumerate(sorted(folder.glob("incident-*.json")), start=1):
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            body, digest = {key: value[key] for key in value if key != "digest"}, value["digest"]
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{path}: no incident record.") from error
        if digest_json(body) != digest:
            raise IntegrityError(f"{path}: changed since it was written. Records are only ever added.")
        if body.get("previous") != previous or body.get("number") != number:
            raise IntegrityError(f"{path}: the record before it is missing or was replaced.")
        found.append(Incident(path, number, body, digest))
        previous = digest
    return found


def record_incident(
    folder: Path,
    findings: Sequence[Finding],
    evidence: Mapping[str, str],
    models: Sequence[str],
    proposal: Mapping[str, Any] | None,
    day: date,
    trusted: Collection[str] = (),
) -> Incident:
    """Add a record of what breached, unless this very evidence has one.

    Args:
        folder: of the records; made where it is absent.
        findings: those that alarm.
        evidence: digests of the data, the reference and the plan.
        models: digests of the models in use.
        proposal: what to go back to, where something asks for it.
        day: on which it was seen.
        trusted: public keys beside this user's own that may have signed the log of the records.

    Raises:
        IntegrityError: an earlier record was changed or is gone.
    """
    earlier = read_incidents(folder, trusted)
    what = {
        "evidence": dict(evidence),
        "models": list(models),
        "breaches": [_breach(one) for one in findings],
    }
    for one in earlier:
        if all(one.body[key] == value for key, value in what.items()):
            return one
    number = len(earlier) + 1
    body = {
        "schema": SCHEMA,
        "number": number,
        "seen": day.isoformat(),
        **what,
        "proposal": proposal,
        "previous": earlier[-1].digest if earlier else GENESIS,
    }
    body = json.loads(json.dumps(body))
    digest = digest_json(body)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"incident-{number:04d}-{day.isoformat()}.json"
    with path.open("x", encoding="utf-8") as stream:  # never over another
        stream.write(
            json.dumps({**body, "digest": digest}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        )
    one = Incident(path, number, body, digest)
    write_end(folder, [*earlier, one], trusted)
    return one


def _breach(finding: Finding) -> dict[str, Any]:
    values = finding.as_json()
    return {name: values[name] for name in _SHOWN}
