"""The traceability table: hazard, control, test, evidence; and every cell that is empty or untrue."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from clinimm.core.record import digest_file
from clinimm.governance.hazards import TOLERABLE, UNACCEPTABLE, Control, Hazard, Hazards
from clinimm.governance.nodes import PASSED, missing_reason

#: Evidence that the web application keeps, and no run has.
SERVER = "server:"
_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        hazard, what, harm, residual: of the hazard.
        control, kind: of the control.
        test, state: of the test; ``exists``, ``collected``, ``passed``, or what is wrong.
        evidence: file of a run, and its digest where a run was given.
    """

    hazard: str
    what: str
    harm: str
    residual: str
    control: str
    kind: str
    test: str
    state: str
    evidence: str


@dataclass(frozen=True)
class Seen:
    """What is known of tests and evidence.

    Attributes:
        root: of the repository.
        collected: tests that pytest collects; None where it was not asked.
        outcomes: test -> how it went; None where no results were given.
        run: whose files are the evidence; None where none was given.
    """

    root: Path
    collected: Collection[str] | None = None
    outcomes: Mapping[str, str] | None = None
    run: Path | None = None


def trace(hazards: Hazards, seen: Seen) -> tuple[list[Row], list[str]]:
    """The table, and what is wrong with it, one sentence each."""
    rows: list[Row] = []
    problems: list[str] = []
    for hazard in hazards.hazards:
        residual = hazards.matrix.judge(hazard.severity, hazard.after)
        problems += _residual_problems(hazard, residual)
        if not hazard.controls:
            problems.append(f"{hazard.id}: no control holds it")
            rows.append(Row(hazard.id, hazard.hazard, hazard.harm, residual, "", "", "", "", ""))
        for control in hazard.controls:
            evidence, wrong = _evidence(control, seen)
            problems += [f"{hazard.id}: {text}" for text in wrong]
            if not control.tests:
                problems.append(f"{hazard.id}: no test fails when this control is gone: {control.what}")
            for test in control.tests or ("",):
                state, bad = _state(test, seen)
                problems += [f"{hazard.id}: {test}: {state}"] if bad else []
                rows.append(
                    Row(
                        hazard.id,
                        hazard.hazard,
                        hazard.harm,
                        residual,
                        control.what,
                        control.kind,
                        test,
                        state,
                        evidence,
                    )
                )
    return rows, list(dict.fromkeys(problems))


def trace_csv(rows: list[Row]) -> str:
    """The table as CSV; text that a spreadsheet would run as a formula is quoted."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [field.name for field in fields(Row)]
    writer.writerow(names)
    for row in rows:
        cells = [str(getattr(row, name)) for name in names]
        writer.writerow([f"'{cell}" if cell.startswith(_STARTS_A_FORMULA) else cell for cell in cells])
    return stream.getvalue()


def _residual_problems(hazard: Hazard, residual: str) -> list[str]:
    if residual == UNACCEPTABLE:
        return [
            f"{hazard.id}: {hazard.severity} and {hazard.after} is not acceptable; another control is due"
        ]
    if residual == TOLERABLE and not hazard.because:
        return [f"{hazard.id}: a residual risk that is only tolerable needs `because`"]
    return []


def _state(test: str, seen: Seen) -> tuple[str, bool]:
    """What is known of a test, and whether that is a problem."""
    if not test:
        return "", False  # said once, of the control
    if reason := missing_reason(seen.root, test):
        return reason, True
    if seen.collected is not None and test not in seen.collected:
        return "pytest does not collect it", True
    if seen.outcomes is not None:
        outcome = seen.outcomes.get(test)
        return outcome or "not among the results that were given", outcome != PASSED
    return "exists" if seen.collected is None else "collected", False


def _evidence(control: Control, seen: Seen) -> tuple[str, list[str]]:
    if not control.evidence:
        return "", [f"no evidence shows this control at work: {control.what}"]
    if seen.run is None or control.evidence.startswith(SERVER):
        return control.evidence, []
    path = seen.run / control.evidence
    if not path.is_file():
        return control.evidence, [f"the run has no {control.evidence}"]
    return f"{control.evidence} (SHA-256 {digest_file(path)[:12]})", []
