from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from clinimm.report.facts import RunFacts
from clinimm.report.unusual import Distance, distances, familiar_verdict

TRAINED = 150


def _encode(run, strange: float, trained: int = TRAINED) -> np.ndarray:
    """Tokens of training patients, of ``run.subject`` at a distance, and of ``run.bare`` among them."""
    random = np.random.default_rng(0)
    subjects = [f"T{number:03d}" for number in range(trained)] + [run.subject, run.bare]
    centres = random.normal(0, 1, (len(subjects), 12))
    centres[-2], centres[-1] = strange, 0.1
    values = (centres[:, None] + random.normal(0, 0.1, (len(subjects), 4, 12))).reshape(-1, 12)
    folder = run.workspace.stage("encode") / "radiology"
    folder.mkdir(exist_ok=True)
    np.save(folder / "values.npy", values.astype(np.float32))
    tokens = pd.DataFrame({"subject_id": np.repeat(subjects, 4), "time_hours": 0.0})
    tokens.to_parquet(folder / "tokens.parquet")
    records = run.workspace.stage("encode") / "ehr"
    records.mkdir(exist_ok=True)
    rows = [
        {"subject_id": name, "code": code, "numeric_value": value + hours / 100, "time_hours": float(hours)}
        for name, row in zip(subjects, centres, strict=True)
        for code, value in zip("abc", row, strict=False)
        for hours in (9, 1)
    ]
    pd.DataFrame(rows).to_parquet(records / "tokens.parquet")
    np.save(records / "values.npy", np.zeros((len(rows), 0), np.float32))
    parts = pd.DataFrame({"subject_id": subjects[:trained], "repeat": 0, "split": "train"})
    both = [parts.assign(fold=fold) for fold in (0, 1)]
    pd.concat(both).to_parquet(run.workspace.root / "cohort" / "splits.parquet")
    return values.reshape(-1, 4, 12).mean(axis=1)


def _distances(run, subject: str, names: tuple[str, ...] = ("radiology", "ehr")) -> list[Distance]:
    facts = RunFacts(run.workspace)
    prediction = facts.predictions.set_index("subject_id", drop=False).loc[subject].to_dict()
    return distances(facts, prediction, names)


def test_a_patient_from_elsewhere_is_flagged_and_one_from_their_midst_is_not(run) -> None:
    _encode(run, strange=9.0)
    assert [(one.modality, one.unusual(2), one.n) for one in _distances(run, run.subject)] == [
        ("radiology", True, TRAINED), ("ehr", True, TRAINED),
    ]  # fmt: skip
    assert not any(one.unusual(2) for one in _distances(run, run.bare))


def test_feature_maps_of_a_fine_tuned_encoder_are_compared_by_channel(run) -> None:
    _encode(run, strange=9.0)
    path = run.workspace.stage("encode") / "radiology" / "values.npy"
    before = _distances(run, run.subject, ("radiology",))
    np.save(path, np.tile(np.load(path)[:, None, :, None, None], (1, 2, 1, 3, 3)))
    assert _distances(run, run.subject, ("radiology",)) == before


def test_the_figure_is_that_of_nearest_neighbours_computed_elsewhere(run) -> None:
    pooled = _encode(run, strange=1.2)
    trained = pooled[:TRAINED]
    scaled = (pooled - trained.mean(0)) / trained.std(0)
    search = NearestNeighbors(n_neighbors=5).fit(scaled[:TRAINED])
    own = search.kneighbors()[0].mean(axis=1)
    one = search.kneighbors(scaled[[TRAINED]])[0].mean()
    found = _distances(run, run.subject, ("radiology",))[0]
    assert found.beyond == pytest.approx(float((own < one).mean()), abs=1e-9)


def test_a_few_training_patients_are_no_measure(run) -> None:
    _encode(run, strange=9.0, trained=20)
    assert _distances(run, run.subject) == []


def test_what_was_not_measured_is_said(run) -> None:
    facts = RunFacts(run.workspace)
    nothing = familiar_verdict(facts, [], ("ehr",))
    assert nothing.tone == "unsure" and "Not measured" in nothing.text
    some = familiar_verdict(facts, [Distance("ehr", 0.4, 99)], ("ehr", "notes"))
    assert some.tone == "pass" and some.points == ("Not measured for: Clinical notes.",)
    odd = familiar_verdict(facts, [Distance("ehr", 1.0, 99)], ("ehr",))
    assert odd.tone == "fail" and "of 99 training patients" in odd.text


@pytest.mark.parametrize("sources", [1, 2, 4])
def test_one_in_twenty_like_them_is_flagged_however_many_sources_there_are(sources: int) -> None:
    random = np.random.default_rng(0)
    flagged = []
    for _ in range(4000):
        found = [
            Distance(str(source), float((random.random(99) < random.random()).mean()), 99)
            for source in range(sources)
        ]
        flagged.append(any(one.unusual(sources) for one in found))
    assert 0.03 < np.mean(flagged) < 0.06


def test_too_few_to_call_one_of_many_sources_unusual_is_not_measured(run) -> None:
    facts = RunFacts(run.workspace)
    names = ("ehr", "notes", "radiology", "pathology")
    few = familiar_verdict(facts, [Distance(name, 1.0, 60) for name in names], names)
    assert few.tone == "unsure" and "Not measured" in few.text
