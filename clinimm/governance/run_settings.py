"""What a run was made with, as dotted keys: settings with their defaults, cohort file, policy, code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clinimm.core.record import RunRecord
from clinimm.governance.change import flat
from clinimm.settings import COHORT_COPY, load_run
from clinimm.yaml_lines import read_yaml

#: Where files lie on a machine is told by their content: the cohort file's keys, the policy's digest.
_PLACES = ("cohort", "audit.policy", "runs_dir")


def settings_of(run: Path) -> dict[str, Any]:
    """Every setting of a run, dotted key -> value.

    ``cohort_file.`` stands before the keys of its cohort file, ``policy`` is the SHA-256 of the policy
    that its audit read, and ``code`` the version of the code that trained it.

    Raises:
        ConfigError: it is not a run's folder, or its cohort file cannot be read.
    """
    config = load_run(run)
    found = flat(config.model_dump(mode="json", by_alias=True))
    for name in _PLACES:
        found.pop(name, None)
    cohort = run / COHORT_COPY
    if cohort.is_file():
        found |= flat(read_yaml(cohort).value, "cohort_file")
    record = RunRecord.read(run / "train")
    found["code"] = record.code_version if record else None
    found["policy"] = policy_digest(run)
    return found


def audit_of(run: Path) -> dict[str, Any] | None:
    """The run's ``audit.json``, or None."""
    path = run / "audit" / "audit.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def policy_digest(run: Path) -> str | None:
    """SHA-256 of the policy that the run's audit read; None where there is none."""
    policy = (audit_of(run) or {}).get("policy") or {}
    return policy.get("sha256")
