"""A public table of 101,766 hospital encounters: what the audit says of a simple model of readmission."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clinimm.audit.table.run import audit_table
from tests.audit.table.conftest import policy_of, rule

_NUMBERS = ["time_in_hospital", "num_lab_procedures", "num_procedures", "num_medications", "number_diagnoses"]
_COUNTS = ["number_outpatient", "number_emergency", "number_inpatient"]
_KINDS = ["admission_type_id", "discharge_disposition_id", "admission_source_id", "A1Cresult", "insulin"]


def _predictions(archive: Path) -> pd.DataFrame:
    """Readmission within 30 days by logistic regression, each patient predicted by a model without them."""
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
        }
    )


@pytest.mark.slow
def test_it_names_who_is_missed_and_what_it_cannot_tell(test_data: Path, write: Callable[..., Path]) -> None:
    table = _predictions(test_data / "samples" / "ehr" / "dataset_diabetes.zip")
    attributes = ["race", "sex", "age"]
    rules = (rule("fnr", 0.05, attribute=attributes), rule("auroc", 0.05, attribute=attributes))
    policy = policy_of(*rules, threshold=0.12, columns={"row": "encounter"})
    content = audit_table(write(table), policy).content
    tested = content["tested"]
    (outcome,) = tested["classes"]
    assert (tested["rows"], tested["subjects"], outcome["positives"]) == (101_766, 71_518, 11_357)
    assert tested["subjects_repeat"]
    found = {(row["rule"], row["attribute"], row["level"]): row for row in content["findings"]}
    # Patients whose race was not recorded are missed more often; a tool that drops them cannot see it.
    missing = found["fnr", "race", "(missing)"]
    assert missing["verdict"] == "fail"
    assert missing["low"] > 0.05
    assert (content["verdict"], content["exit_status"]) == ("fail", 1)
    # The model ranks worse with age: young adults surely better, those over 80 surely below the rest.
    assert found["auroc", "age", "[20-30)"]["low"] > 0
    assert found["auroc", "age", "[80-90)"]["high"] < 0
    # 641 encounters of Asian patients, and three of unknown sex, do not pass by being few.
    for name, level in (("race", "Asian"), ("sex", "(missing)")):
        row = found["fnr", name, level]
        assert row["verdict"] == "inconclusive"
        assert row["needed"]["count"] > 0
