"""The check fails on an empty cell, a test that is not there, and what is overdue."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import pytest

from clinimm.cli import app as application
from clinimm.governance.check import check_folder
from clinimm.governance.hazards import read_hazards
from clinimm.governance.nodes import collected, missing_reason, outcomes
from clinimm.governance.trace import SERVER, Seen, trace

ROOT = Path(__file__).parents[2]
DAY = date(2026, 11, 22)
TEST = "tests/room/test_room.py::test_it_is_impossible"


def problems(repository, **seen):
    return check_folder(repository / "governance", Seen(repository, **seen), DAY).problems


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_repository_s_own_folder_has_no_problem():
    found = check_folder(ROOT / "governance", Seen(ROOT), DAY)
    assert found.problems == ()
    assert len({row.hazard for row in found.rows}) >= 28
    assert all(row.test and row.evidence and row.control for row in found.rows)


def test_evidence_of_the_register_is_a_documented_file():
    """Each file stands in the files reference, under its stage's heading or by its name."""
    text = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    hazards, _ = read_hazards(ROOT / "governance" / "hazards.yaml")
    for name in {control.evidence for hazard in hazards.hazards for control in hazard.controls}:
        assert Path(name.removeprefix(SERVER)).name.removesuffix(".sqlite") in text, name


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("::test_it_is_impossible", "::test_gone", "the file has no test_gone"),
        ("test_room.py::", "test_other.py::", "there is no such file"),
        ("::test_it_is_impossible", "::test_never", "it is always skipped"),
        ("::test_it_is_impossible", "::helper", "names that start with test only"),
        ("::test_it_is_impossible", "::TestRoom", "names that start with test only"),
        ("[tests/room/test_room.py::test_it_is_impossible]", "[]", "no test fails when this control is gone"),
        ("        evidence: audit/audit.json\n", "", "no evidence shows this control"),
        ("    after: remote", "    after: probable", "critical and probable is not acceptable"),
        ("    after: remote", "    after: occasional", "needs `because`"),
        (
            "tests/room/test_room.py::test_it_is_impossible",
            "room.py",
            "a test is named tests/FOLDER/FILE.py::NAME",
        ),
        ("    before: probable", "    before: improbable", "a control that adds risk is none"),
        ("kind: design", "kinds: design", "did you mean `kind`?"),
    ],
)
def test_an_empty_or_untrue_cell_is_a_problem(repository, old, new, said):
    assert problems(repository) == ()
    change(repository / "governance" / "hazards.yaml", old, new)
    assert said in "\n".join(problems(repository))


def test_a_hazard_without_control_is_a_problem(repository):
    path = repository / "governance" / "hazards.yaml"
    path.write_text(path.read_text().partition("    controls:")[0] + "    controls: []\n")
    assert problems(repository) == ("hazards.yaml: H1: no control holds it",)


def test_tests_in_classes_and_with_parameters_are_found(repository):
    assert missing_reason(repository, "tests/room/test_room.py::TestRoom::test_inside") == ""
    assert missing_reason(repository, "tests/room/test_room.py::test_each") == ""


def test_pytest_is_asked_what_it_collects(repository):
    names = collected(repository, [TEST])
    assert {
        TEST,
        "tests/room/test_room.py::test_each",
        "tests/room/test_room.py::TestRoom::test_inside",
    } <= names
    assert problems(repository, collected=names) == ()
    assert "pytest does not collect it" in problems(repository, collected=set())[0]


def test_results_must_have_passed(repository, tmp_path):
    path = tmp_path / "junit.xml"
    case = '<testcase classname="tests.room.test_room" name="{}">{}</testcase>'
    path.write_text(
        f"<testsuites><testsuite>{case.format('test_it_is_impossible', '')}</testsuite></testsuites>"
    )
    assert problems(repository, outcomes=outcomes(path)) == ()
    both = case.format("test_it_is_impossible[1]", "") + case.format("test_it_is_impossible[2]", "<failure/>")
    path.write_text(f"<testsuites>{both}{case.format('test_it_is_impossible[3]', '<skipped/>')}</testsuites>")
    assert problems(repository, outcomes=outcomes(path)) == (f"hazards.yaml: H1: {TEST}: failed",)
    assert "not among the results" in problems(repository, outcomes={})[0]


def test_a_run_must_hold_the_evidence(repository, tmp_path):
    run = tmp_path / "run"
    assert problems(repository, run=run) == ("hazards.yaml: H1: the run has no audit/audit.json",)
    (run / "audit").mkdir(parents=True)
    (run / "audit" / "audit.json").write_text("{}")
    found = check_folder(repository / "governance", Seen(repository, run=run), DAY)
    assert found.problems == ()
    assert found.rows[0].evidence.startswith("audit/audit.json (SHA-256 44136fa355b3")


WAIVER = """schema: clinimm.waivers/1
waivers:
  - {rule: missed, reason: Eleven more are enrolled., owners: [a, b], signed: 2026-11-01, until: 2026-11-21}
"""


def test_an_ended_waiver_is_a_problem(repository):
    path = repository / "governance" / "waivers" / "missed.yaml"
    path.write_text(WAIVER)
    assert "missed.yaml: missed: ended on 2026-11-21" in problems(repository)[0]
    path.write_text(WAIVER.replace("2026-11-21", "2026-11-22"))
    assert problems(repository) == ()
    path.write_text(WAIVER.replace("2026-11-21", "2026-11-22").replace("rule: missed", "rule: mist"))
    assert "the policy has no such rule" in problems(repository)[0]


def test_an_incident_is_closed_with_a_cause_and_a_test_and_in_time(repository):
    form = (repository / "governance" / "templates" / "incident.yaml").read_text().replace("H7", "H1")
    path = repository / "governance" / "incidents" / "x.yaml"
    path.write_text(form)
    assert problems(repository) == ()
    path.write_text(form.replace("due: 2026-12-22", "due: 2026-11-21"))
    assert "was to be closed by 2026-11-21" in problems(repository)[0]
    path.write_text(form.replace("H1", "H9").replace("owner: clinical_safety_officer", "owner: boss"))
    assert len(problems(repository)) == 2
    closed = form.replace("# closed:", "closed:")
    path.write_text(closed)
    assert "is closed with its cause, mended, tests" in problems(repository)[0]
    for key in ("cause", "mended", "tests"):
        closed = closed.replace(f"# {key}:", f"{key}:")
    path.write_text(closed)
    assert "there is no such file" in problems(repository)[0]
    path.write_text(closed.replace("tests/FOLDER/test_file.py::test_name", TEST))
    assert problems(repository) == ()


def test_a_record_of_the_monitor_is_answered_by_a_person(repository):
    folder = repository / "governance" / "incidents"
    record = folder / "incident-0001-2026-11-22.json"
    record.write_text("{}")
    assert "no incident answers this record" in problems(repository)[0]
    form = (repository / "governance" / "templates" / "incident.yaml").read_text().replace("H7", "H1")
    (folder / "x.yaml").write_text(form.replace("# record:", "record:"))
    assert problems(repository) == ()
    record.unlink()
    assert "there is no record incident-0001" in problems(repository)[0]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "monitoring-plan.md",
            "## Rollback",
            "## Elsewhere",
            "monitoring-plan.md: nothing stands under `## Rollback`",
        ),
        ("change-control.yaml", "key: train.epochs", "key: train.epoch", "no setting train.epoch"),
        ("change-control.yaml", "owner: operator", "owner: nobody", "nobody has the role nobody"),
        ("card.yaml", "  product:", "  products:", "did you mean `product`?"),
        ("policy.yaml", "margin: 0.10", "margn: 0.10", "did you mean `margin`?"),
        ("owners.yaml", "  sponsor:", "  payer:", "nobody has the role sponsor"),
    ],
)
def test_each_file_is_looked_at(repository, file, old, new, said):
    change(repository / "governance" / file, old, new)
    assert said in "\n".join(problems(repository))


def test_an_absent_file_is_a_problem(repository):
    for name in ("decommissioning.md", "owners.yaml"):
        (repository / "governance" / name).unlink()
    assert [one for one in problems(repository) if "decommissioning.md: there is no such text" in one]
    assert [one for one in problems(repository) if "owners.yaml: cannot be read" in one]


def test_the_command_writes_the_table_and_fails_on_a_problem(repository, capsys):
    out, folder = repository / "out", repository / "governance"
    command = ["governance", "check", "--governance", str(folder), "--out", str(out), "--on", "2026-11-22"]
    assert application.run(command) == 0
    first = (out / "traceability.html").read_bytes()
    (row,) = csv.DictReader((out / "traceability.csv").read_text().splitlines())
    assert (row["hazard"], row["test"], row["state"], row["residual"]) == ("H1", TEST, "exists", "acceptable")
    assert "1 hazards, 1 controls, 1 tests, 0 problems." in capsys.readouterr().out
    assert b"No empty cell." in first
    assert b"<script" not in first
    assert application.run(command) == 0
    assert (out / "traceability.html").read_bytes() == first
    change(folder / "hazards.yaml", "test_it_is_impossible", "test_gone")
    change(folder / "hazards.yaml", "Something could", "<b>Something</b> could")
    assert application.run(command) == 1
    page = (out / "traceability.html").read_text()
    assert "the file has no test_gone" in page
    assert "<b>Something" not in page
    (folder / "hazards.yaml").write_text("schema: [")
    assert application.run(command) == 3


def test_every_row_of_a_hazard_without_control_is_there(repository):
    path = repository / "governance" / "hazards.yaml"
    path.write_text(path.read_text().partition("    controls:")[0] + "    controls: []\n")
    rows, _ = trace(read_hazards(path)[0], Seen(repository))
    assert [(row.hazard, row.control, row.test) for row in rows] == [("H1", "", "")]
