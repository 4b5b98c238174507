"""Writes the evidence: JSON, one HTML file, CSV and JUnit; twice, for reviewers and for publication."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from clinimm.audit.engine.measures import MEASURES
from clinimm.audit.groups import EVERYBODY, OVERALL
from clinimm.audit.policy import Policy
from clinimm.audit.table.assemble import Audit
from clinimm.audit.table.page import audit_page
from clinimm.audit.table.publish import published
from clinimm.audit.table.study import CROSSED
from clinimm.audit.verdict import FAIL, PASS
from clinimm.core.errors import ConfigError, IntegrityError
from clinimm.core.record import digest_bytes, write_bytes

PUBLISHED = "published"
#: Files of an audit that not every audit has; one from an earlier audit would tell of other data.
SOMETIMES = ("signals.json", "signals.html")
_OURS = b'"schema": "clinimm.audit/'
_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def evidence(audit: Audit, policy: Policy) -> dict[str, bytes]:
    """Path relative to the folder -> content; the same table and policy give the same bytes."""
    files = _views(audit.content, audit.groups)
    files["junit.xml"] = _junit(audit.content)
    content = published(audit, policy)
    outside = _views(content, content["groups"])
    return files | {f"{PUBLISHED}/{name}": text for name, text in outside.items()}


def write_evidence(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write every file, whole or not at all."""
    for name, content in files.items():
        write_bytes(folder / name, content)


def replace_evidence(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write every file into a folder of the user's choice; what an earlier audit left there goes.

    Other files stay as they are.

    Raises:
        ConfigError: a file that would be overwritten is not an audit's, or the folder cannot be written.
    """
    try:
        there = [name for name in files if (folder / name).exists()]
        audit = folder / "audit.json"
        if there and not (audit.is_file() and _OURS in audit.read_bytes()):
            raise ConfigError(
                f"{folder}: holds {there[0]} and no audit; it would be overwritten. Give another folder."
            )
        write_evidence(folder, files)
        for name in set(SOMETIMES) - set(files):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}.") from error


def check_evidence(folder: Path, files: Mapping[str, bytes]) -> None:
    """Compare what an audit gives now with what stands in a folder.

    Raises:
        IntegrityError: a file is missing or differs; names each.
    """
    wrong = []
    for name, content in files.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif digest_bytes(path.read_bytes()) != digest_bytes(content):
            wrong.append(f"{name} differs")
    wrong += [
        f"{name} is of another audit" for name in SOMETIMES if name not in files and (folder / name).exists()
    ]
    if wrong:
        raise IntegrityError(
            f"{folder}: the evidence does not match predictions, policy and code: {'; '.join(wrong)}. "
            "Audit again without --check, and find out who changed what."
        )


def _views(content: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    return {
        "audit.json": _json(content).encode("utf-8"),
        "audit.html": audit_page(content).encode("utf-8"),
        "groups.csv": _groups_csv(groups).encode("utf-8"),
        "findings.csv": _findings_csv(content).encode("utf-8"),
    }


def _json(content: Mapping[str, Any]) -> str:
    """Indented, with one line a finding and a group: a diff of two audits can be read."""
    parts = [f' "{key}": {_part(content[key])}' for key in sorted(content)]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _part(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return _line(value)
    return "[\n" + ",\n".join(f"  {_line(row)}" for row in value) + "\n ]"


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _groups_csv(groups: Sequence[Mapping[str, Any]]) -> str:
    counts = ("true_positive", "false_negative", "false_positive", "true_negative")
    ends = [f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")]
    rows: list[list[Any]] = [["class_name", "attributes", "levels", "n", "positives", *counts, *ends]]
    for row in groups:
        attributes, levels = CROSSED.join(row["attributes"]), CROSSED.join(row["levels"])
        start = [row["class_name"], attributes or OVERALL, levels or EVERYBODY]
        if row["figures"] is None:
            rows.append([*start, *[""] * (2 + len(counts) + len(ends))])
            continue
        figures = [end for name in MEASURES for end in row["figures"][name]]
        rows.append([*start, row["n"], row["positives"], *(row["counts"][name] for name in counts), *figures])
    return _csv(rows)


def _findings_csv(content: Mapping[str, Any]) -> str:
    columns = [
        "class_name",
        "rule",
        "metric",
        "stat",
        "reference",
        "attribute",
        "level",
        "verdict",
        "value",
        "low",
        "high",
    ]
    columns += ["group_value", "reference_value", "n", "count", "unit"]
    rows: list[list[Any]] = [[*columns, "needed", "needed_of", "blocks", "waived", "sentence"]]
    for row in content["findings"]:
        needed = row["needed"] or {"count": "", "of": ""}
        rest = [needed["count"], needed["of"], row["blocks"], row["waived"], row["sentence"]]
        rows.append([*(row[name] for name in columns), *rest])
    return _csv(rows)


def _csv(rows: list[list[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([[_cell(value) for value in row] for row in rows])
    return stream.getvalue()


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula is quoted."""
    if isinstance(value, str) and value.startswith(_STARTS_A_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def _junit(content: Mapping[str, Any]) -> bytes:
    """One test a finding: broken is a failure, undecided and blocking an error, not blocking skipped.

    The sentence stands as an attribute and as text: Jenkins shows the first, GitLab only the second.
    """
    findings = content["findings"]
    failed = [row for row in findings if row["verdict"] == FAIL and row["blocks"]]
    undecided = [row for row in findings if row["verdict"] not in (PASS, FAIL) and row["blocks"]]
    skipped = [row for row in findings if row["verdict"] != PASS and not row["blocks"]]
    suite = Element(
        "testsuite",
        name="clinimm audit",
        tests=str(len(findings)),
        failures=str(len(failed)),
        errors=str(len(undecided)),
        skipped=str(len(skipped)),
    )
    for row in findings:
        case = SubElement(
            suite,
            "testcase",
            classname=f"audit.{row['rule']}",
            name=f"{row['class_name']}, {row['attribute']}: {row['level']}",
        )
        if row in failed:
            SubElement(case, "failure", type=row["metric"], message=row["sentence"]).text = row["sentence"]
        elif row in undecided:
            SubElement(case, "error", type="inconclusive", message=row["sentence"]).text = row["sentence"]
        elif row in skipped:
            reason = row["waived"] or ("inferred attribute" if not row["gates"] else row["verdict"])
            said = f"{reason}: {row['sentence']}"
            SubElement(case, "skipped", message=said).text = said
    indent(suite, " ")
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + tostring(suite, encoding="utf-8") + b"\n"
