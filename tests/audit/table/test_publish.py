"""What may leave the house: somebody who has every published file tries to find a small count."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from clinimm.audit.engine.rows import Coded, Rows
from clinimm.audit.groups import MISSING
from clinimm.audit.modalities import Coalitions, by_modality
from clinimm.audit.policy import Policy
from clinimm.audit.table.assemble import Part, assemble
from clinimm.audit.table.run import audit_table
from clinimm.audit.table.study import Study
from clinimm.audit.table.write import evidence
from clinimm.governance.cards.write import documents, load_source
from tests.audit.table.conftest import draw_table, policy_of, rule

GOVERNANCE = Path(__file__).parents[3] / "governance"
CELLS = ("true_positive", "false_negative", "false_positive", "true_negative")
TESTED = {"kind": "run", "file": "predictions.parquet", "sha256": "a" * 64, "subject_known": True}
TESTED |= {"columns": {}, "model_digest": "b" * 64}


def people(seed: int, n: int = 900) -> tuple[dict[str, Coded], np.ndarray]:
    """Three attributes, of which four people lack one; and one of three diagnoses each, one of them rare."""
    generator = np.random.default_rng(seed)
    race = generator.choice(3, n, p=[0.6, 0.31, 0.09])
    site = generator.choice(3, n, p=[0.5, 0.45, 0.05])
    site[:4] = 3
    sex = generator.choice(2, n)
    coded = {
        "race": Coded(race, ("a", "b", "c")),
        "site": Coded(site, ("north", "south", "west", MISSING)),
        "sex": Coded(sex, ("female", "male")),
    }
    return coded, generator.choice(3, n, p=[0.55, 0.38, 0.07])


def several_classes(seed: int, intersections: int = 2) -> tuple[dict[str, Study], Any, Policy]:
    """An audit of a diagnosis of three classes, one of which everybody has."""
    coded, diagnosis = people(seed)
    generator = np.random.default_rng(seed + 1)
    studies = {
        name: Study(
            Rows(
                (diagnosis == place).astype(np.uint8),
                0.5 * (diagnosis == place) + 0.38 * generator.random(len(diagnosis)),
                coded,
            ),
            0.4,
            "subjects",
        )
        for place, name in enumerate(("benign", "nevus", "melanoma"))
    }
    judged = ["race", "site", "race*sex"][: intersections + 1]
    policy = policy_of(rule(attribute=judged), rule("fpr", attribute=["site"]), intersections=intersections)
    parts = [Part(name, study, "given") for name, study in studies.items()]
    return studies, assemble(parts, policy, TESTED | {"subjects": len(diagnosis)}), policy


def _name(row: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(row["attributes"]), tuple(row["levels"])


def _members(study: Study, row: dict[str, Any]) -> np.ndarray:
    """Which rows a group consists of."""
    found = np.ones(study.rows.n, dtype=bool)
    for attribute, level in zip(row["attributes"], row["levels"], strict=True):
        column = study.rows.attributes[attribute]
        found &= column.code == column.levels.index(level)
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_size_of_a_group_follows_from_what_all_classes_show(seed: int) -> None:
    studies, audit, policy = several_classes(seed)
    outside = json.loads(evidence(audit, policy)["published/audit.json"])
    study = next(iter(studies.values()))
    atoms = np.unique(np.stack([column.code for column in study.rows.attributes.values()]), axis=1)
    codes = np.stack([column.code for column in study.rows.attributes.values()])
    which = np.argmax((codes[:, None, :] == atoms[:, :, None]).all(axis=0), axis=0)
    sizes = np.bincount(which, minlength=atoms.shape[1])

    def of_atoms(row: dict[str, Any]) -> np.ndarray:
        inside = np.bincount(which, weights=_members(study, row), minlength=len(sizes))
        return (inside > 0).astype(float)

    shown = [row for row in outside["groups"] if row["n"] is not None]
    hidden = [row for row in outside["groups"] if row["n"] is None]
    assert shown and hidden
    known = np.array([*(of_atoms(row) for row in shown), np.ones(len(sizes))])
    totals = known @ sizes
    for row in hidden:
        wanted = of_atoms(row)
        most = -linprog(-wanted, A_eq=known, b_eq=totals, bounds=(0, None), method="highs").fun
        assert wanted @ sizes == 0 or most > 10.5, (row["class_name"], _name(row), wanted @ sizes, most)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("intersections", [1, 2])
def test_no_outcome_of_a_class_follows_from_those_of_the_others(seed: int, intersections: int) -> None:
    """Everybody has one of three diagnoses: what two classes show leaves the third."""
    _, audit, policy = several_classes(seed, intersections)
    outside = json.loads(evidence(audit, policy)["published/audit.json"])
    inside = {(row["class_name"], *_name(row)): row for row in audit.groups}
    by_name: dict[Any, list[dict[str, Any]]] = {}
    for row in outside["groups"]:
        by_name.setdefault(_name(row), []).append(row)
    for rows in by_name.values():
        if not rows[0]["attributes"]:
            continue
        known = [row for row in rows if row["positives"] is not None]
        cells = [inside[row["class_name"], *_name(row)]["counts"].values() for row in rows]
        small = any(0 < count < 11 for own in cells for count in own)
        assert not (small and known), "one class shows what another hides"


def test_nothing_of_a_small_count_of_everybody_is_told(write: Callable[..., Path]) -> None:
    """Five are missed in all: no file says how many are flagged, nor any rate against the rest."""
    table = draw_table(800)
    table["probability"] = np.where(table["label"] == 1, 0.9, np.linspace(0.01, 0.6, len(table)))
    table.loc[table.index[table["label"] == 1][:5], "probability"] = 0.1
    policy = policy_of(rule(attribute=["sex"]), rule("fnr", id="overall", reference="overall"))
    files = evidence(audit_table(write(table), policy), policy)
    outside = json.loads(files["published/audit.json"])
    (about,) = outside["tested"]["classes"]
    assert about["positives"] is about["prevalence"] is about["flagged"] is None
    assert all(row["reference_value"] is None for row in outside["findings"])
    assert b"how many have the outcome is hidden" in files["published/audit.html"]


def test_published_sentences_do_not_say_how_many_a_hidden_group_needs(write: Callable[..., Path]) -> None:
    """What is needed is a known number less what a small group has."""
    policy = policy_of(rule(attribute=["race"], margin=0.3))
    table = draw_table(300)
    files = evidence(audit_table(write(table), policy), policy)
    inside, outside = (json.loads(files[name]) for name in ("audit.json", "published/audit.json"))
    assert outside["published"]["hidden_groups"]
    assert "More cases needed" in " ".join(inside["not_known"])
    assert "More cases needed" not in " ".join(outside["not_known"])
    assert not [text for text in outside["not_known"] if "is missing in" in text]


def test_files_of_a_folder_hide_the_same_groups(write: Callable[..., Path], tmp_path: Path) -> None:
    """JSON, CSV, page and the four evidence documents: no figure stands in one that another hides."""
    policy = policy_of(rule(attribute=["race"]), attributes={"age": {"bins": [40, 65]}})
    policy = policy.model_copy(update={"attributes": ("sex", "age")})
    files = evidence(audit_table(write(draw_table(700)), policy), policy)
    outside = json.loads(files["published/audit.json"])
    hidden = {_name(row) for row in outside["groups"] if row["counts"] is None}
    assert hidden
    for row in csv.DictReader(io.StringIO(files["published/groups.csv"].decode())):
        empty = (row["n"], row["positives"], row["true_positive"], row["fnr"]) == ("",) * 4
        attributes = () if row["attributes"] == "overall" else tuple(row["attributes"].split(" × "))
        levels = tuple(row["levels"].split(" × ")) if attributes else ()
        assert empty == ((attributes, levels) in hidden)
    path = tmp_path / "audit.json"
    path.write_bytes(files["published/audit.json"])
    made = documents(load_source(path, GOVERNANCE))
    figures = [one for item in json.loads(made["hti1.json"])["attributes"] for one in item["figures"]]
    for attributes, levels in hidden:
        if len(attributes) == 1:
            about = re.compile(rf"\b{attributes[0]} {re.escape(levels[0])} \(")
            numbers = [
                one for one in figures if about.search(one["label"]) and "finding" not in one["pointer"]
            ]
            assert not numbers


def test_a_gap_by_modality_is_published_only_where_no_source_makes_a_small_count() -> None:
    """With the sizes of both groups a rate of one source alone is a count."""
    generator = np.random.default_rng(4)
    n = 3000
    label = (generator.random(n) < 0.4).astype(np.uint8)
    coded = {
        "sex": Coded(generator.choice(2, n), ("female", "male")),
        "site": Coded((np.arange(n) % 2), ("a", "b")),
    }
    fused = np.clip(0.3 + 0.3 * label + generator.normal(0, 0.2, n), 0, 1)
    alone = fused.copy()
    alone[label == 1] = 0.9
    alone[np.flatnonzero((label == 1) & (coded["sex"].code == 0))[:3]] = 0.1
    few = [np.full(n, 0.5), alone, fused, fused]
    enough = [np.full(n, 0.5), fused, fused[::-1], fused]
    policy = policy_of(rule(attribute=["sex", "site"], margin=0.1))
    for scores, told in ((few, False), (enough, True)):
        studies = [Study(Rows(label, one, coded), 0.45, "subjects") for one in scores]
        audit = assemble([Part("severe", studies[-1], "given")], policy, TESTED | {"subjects": n})
        part = by_modality(Coalitions(("ehr", "film"), {"severe": studies}), policy)
        audit.content["modalities"] = part
        outside = json.loads(evidence(audit, policy)["published/audit.json"])["modalities"]
        assert part["amplification"] and bool(outside["amplification"]) == bool(outside["shares"]) == told
        values = [row["value"] for subset in outside["subsets"] for row in subset["findings"]]
        assert (None not in values) == told
