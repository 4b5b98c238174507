"""What ``clinimm audit-table`` says of a simple model on 101,766 hospital encounters with diabetes.

    python benchmarks/audit_uci.py [--data FOLDER] [--out FOLDER]

Readmission within 30 days by logistic regression on counts, kinds of admission and two laboratory results; no
race, sex or age among its inputs. Each patient is predicted by a fit without them. Flagged from 0.12, near
the prevalence. Rules: FNR and AUROC within 0.05 of everybody else, by race, sex and age band. Then the
detectors: slices (with days in hospital), readmission at any time as the other outcome, the payer as metadata
that should not tell, and encounters in order of their number, which rises over the ten years, as time.

The data are licensed: nothing of them leaves FOLDER but the figures that are printed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clinimm.audit.policy import Policy
from clinimm.audit.table.run import audit_table
from clinimm.audit.table.signals import signal_files, table_signals

_NUMBERS = ["time_in_hospital", "num_lab_procedures", "num_procedures", "num_medications", "number_diagnoses"]
_COUNTS = ["number_outpatient", "number_emergency", "number_inpatient"]
_KINDS = ["admission_type_id", "discharge_disposition_id", "admission_source_id", "A1Cresult", "insulin"]


def predictions(archive: Path) -> pd.DataFrame:
    """The table that is audited: a row an encounter."""
    with zipfile.ZipFile(archive) as bundle, bundle.open("dataset_diabetes/diabetic_data.csv") as stream:
        rows = pd.read_csv(stream, na_values="?", low_memory=False)
    label = (rows["readmitted"] == "<30").astype(int)
    kinds = pd.get_dummies(rows[_KINDS].astype(str)).astype(float)
    features = np.hstack([rows[_NUMBERS].astype(float), np.log1p(rows[_COUNTS].astype(float)), kinds])
    risk = np.zeros(len(rows))
    for train, test in GroupKFold(2).split(features, label, rows["patient_nbr"]):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
        risk[test] = model.fit(features[train], label[train]).predict_proba(features[test])[:, 1]
    return pd.DataFrame(
        {
            "subject_id": rows["patient_nbr"].astype(str),
            "encounter": rows["encounter_id"].astype(str),
            "label": label,
            "probability": risk,
            "race": rows["race"],
            "sex": rows["gender"].replace("Unknown/Invalid", None),
            "age": rows["age"],
            "readmitted_any_time": (rows["readmitted"] != "NO").astype(int),
            "order": rows["encounter_id"].astype(np.int64),
            "payer": rows["payer_code"],
            "days_in_hospital": rows["time_in_hospital"],
        }
    )


def policy() -> Policy:
    attributes = ["race", "sex", "age"]
    rules = [
        {"id": name, "metric": name, "stat": "difference", "attribute": attributes, "margin": 0.05}
        for name in ("fnr", "auroc")
    ]
    detect = {
        "slices": True,
        "features": ["days_in_hospital"],
        "outcome": "readmitted_any_time",
        "time": "order",
        "metadata": ["payer"],
    }
    return Policy.model_validate(
        {
            "schema": "clinimm.policy/1",
            "statistics": {"inconclusive": "block"},
            "table": {"threshold": 0.12, "columns": {"row": "encounter"}, "detect": detect},
            "rules": rules,
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="keep the evidence here")
    asked = parser.parse_args()
    archive = asked.data / "samples" / "ehr" / "dataset_diabetes.zip"
    if not archive.is_file():
        print(f"skipped: no {archive}")
        return 0
    table = predictions(archive)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encounters.parquet"
        table.to_parquet(path)
        start = time.process_time()
        audit = audit_table(path, policy())
        middle = time.process_time()
        ((name, study),) = audit.studies.items()
        signals = table_signals(path, study.rows, policy().table)
        end = time.process_time()
    tested = audit.content["tested"]
    whom = f"{tested['rows']:,} encounters of {tested['subjects']:,} patients"
    print(f"{whom}, {int(table['label'].sum()):,} positive; ", end="")
    print(f"AUROC {roc_auc_score(table['label'], table['probability']):.3f} (scikit-learn)")
    print(f"audit {middle - start:.1f} s, detectors {end - middle:.1f} s of processor")
    print(f"\n{audit.content['sentence']} Exit status {audit.exit_status}.\n")
    for finding in audit.content["findings"]:
        print(f"{finding['verdict']:<13} {finding['sentence']}")
    for detector, (raised, sentences) in signals.by_detector.items():
        print(f"\n{detector}: {'signal' if raised else 'no signal'}")
        for sentence in sentences:
            print(f"  {sentence}")
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        for file, content in signal_files({name: signals}, "encounters.parquet").items():
            (asked.out / file).write_bytes(content)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
