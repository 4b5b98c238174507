"""The files of the evidence: what a CI server makes of them, and that nothing around them changes a byte."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

import clinimm
from clinimm.audit.table.run import audit_table
from clinimm.audit.table.write import evidence
from clinimm.audit.waiver import Waiver
from tests.audit.table.conftest import draw_table, policy_of, rule

_COMMAND = (
    "import sys; from clinimm.cli.app import run;"
    "sys.exit(run(['audit-table', sys.argv[1], '--attribute', 'race', '--attribute', 'sex', '--attribute',"
    "'race*sex', '--metric', 'fnr', '--metric', 'auroc', '--metric', 'ece', '--threshold', '0.3',"
    "'--margin', '0.1', '--slices', '--out', sys.argv[2]]))"
)


def test_the_same_bytes_in_another_time_zone_locale_folder_hash_seed_and_number_of_threads(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    table = draw_table(1500)
    table["race"] = table["race"].replace({"a": "\u0141\u00f3d\u017a", "b": "\u00e9"})
    path = write(table)
    around = [
        {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "0"},
        {"TZ": "Pacific/Kiritimati", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "3"},
        {
            "TZ": "America/St_Johns",
            "LC_ALL": "tr_TR.UTF-8",
            "PYTHONHASHSEED": "5",
            "OPENBLAS_NUM_THREADS": "2",
        },
    ]
    found = []
    for number, variables in enumerate(around):
        folder = tmp_path / f"here {number}"
        folder.mkdir()
        out = folder / "out"
        subprocess.run(
            [sys.executable, "-c", _COMMAND, os.path.relpath(path, folder) if number else str(path), "out"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(clinimm.__file__).parents[1])} | variables,
            check=False,
            capture_output=True,
        )
        found.append({str(one.relative_to(out)): one.read_bytes() for one in out.rglob("*") if one.is_file()})
    assert {"audit.json", "signals.html", "published/audit.html", "junit.xml"} <= set(found[0])
    assert found[0] == found[1] == found[2]


def _case(junit: bytes, rule_id: str, level: str) -> ElementTree.Element:
    suite = ElementTree.fromstring(junit)
    return next(
        case
        for case in suite
        if case.get("classname") == f"audit.{rule_id}" and (case.get("name") or "").endswith(f": {level}")
    )


def test_junit_says_failure_for_broken_error_for_undecided_and_skipped_for_what_does_not_block(
    write: Callable[..., Path],
) -> None:
    """Readers count failures and errors as failed and show skipped apart; none shows these as passed."""
    table = draw_table(3000, bias=3.0)
    table["ward"] = np.where(np.arange(len(table)) < 60, "small", "large")
    table["guess"] = table["sex"]
    policy = policy_of(
        rule(attribute=["sex", "ward"], margin=0.05),
        rule("auroc", id="waived", attribute=["sex"], margin=0.01),
        rule(id="inferred", attribute=["guess"], margin=0.05),
        rule(id="warned", attribute=["ward"], margin=0.05, inconclusive="warn"),
        attributes={"guess": {"source": "inferred"}},
    )
    waiver = Waiver(
        rule="waived",
        reason="retrained model is due in June",
        owners=("A. Auditor", "S. Officer"),
        signed=date(2030, 4, 1),
        until=date(2030, 6, 1),
    )
    audit = audit_table(write(table), policy, (waiver,), date(2030, 5, 1))
    junit = evidence(audit, policy)["junit.xml"]
    suite = ElementTree.fromstring(junit)
    assert _case(junit, "fnr", "female").find("failure") is not None
    undecided = _case(junit, "fnr", "small").find("error")
    assert undecided is not None and undecided.get("type") == "inconclusive"
    assert undecided.text == undecided.get("message") and "ward: small" in str(undecided.text)
    assert len(_case(junit, "fnr", "male")) == 0
    said = {
        name: _case(junit, name, level).findall("skipped")[0].get("message", "")
        for name, level in (("waived", "female"), ("inferred", "female"), ("warned", "small"))
    }
    assert said["waived"].startswith("until 2030-06-01 by A. Auditor and S. Officer")
    assert said["inferred"].startswith("inferred attribute: ")
    assert said["warned"].startswith("inconclusive: ")
    for kind, total in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert len(suite.findall(f"testcase/{kind}")) == int(suite.get(total) or 0) > 0
    assert len(suite) == int(suite.get("tests") or 0) == len(audit.content["findings"])
    assert audit.exit_status == 1
