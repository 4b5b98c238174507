from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from clinimm.core.attribution import LOCALISATION_COLUMNS
from clinimm.report.facts import RunFacts
from clinimm.report.localised import localised
from clinimm.report.patient_report import patient_page
from tests.report.conftest import MockRun

METHOD = "integrated_gradients"


def _write(run: MockRun, sizes: list[str], **more: Any) -> pd.DataFrame:
    random = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "subject_id": [f"T{number:03d}" for number in range(len(sizes))],
            "task": "severe", "class_name": "severe", "method": METHOD, "modality": "radiology",
            "digest": [f"{number:064d}" for number in range(len(sizes))], "findings": 1, "leaning": 1,
            "hit": random.random(len(sizes)) < 0.7, "hit_by_chance": 0.2, "iou": 0.3,
            "mass_inside": random.random(len(sizes)), "area": 0.1, "size": sizes, "model_digest": "d" * 64,
        }
    ).assign(**more)[list(LOCALISATION_COLUMNS)]  # fmt: skip
    table.to_parquet(run.workspace.root / "explain" / "localisation.parquet")
    return table


def test_figures_are_those_of_the_table_by_size(run: MockRun) -> None:
    table = _write(run, ["small"] * 12 + ["large"] * 30)
    every, small, large = localised(RunFacts(run.workspace), "radiology", METHOD)
    assert [(row.size, row.n) for row in (every, small, large)] == [("all", 42), ("small", 12), ("large", 30)]
    own = table[table["size"] == "large"]
    interval = binomtest(int(own["hit"].sum()), 30).proportion_ci(method="wilson")
    assert large.hit is not None and large.inside is not None
    assert large.hit.value == pytest.approx(own["hit"].mean())
    assert (large.hit.low, large.hit.high) == pytest.approx((interval.low, interval.high), abs=1e-6)
    error = 1.96 * own["mass_inside"].std(ddof=1) / 30**0.5
    assert large.inside.value == pytest.approx(own["mass_inside"].mean())
    assert large.inside.high - large.inside.low == pytest.approx(2 * error, rel=0.2)
    assert (large.chance, large.area) == pytest.approx((0.2, 0.1))
    assert small.span == "under 1\u00a0% of the picture" and large.span == "from 5\u00a0%"


def test_a_size_with_few_patients_shows_no_figure_and_few_patients_no_table(run: MockRun) -> None:
    _write(run, ["small"] * 9 + ["medium"] * 10)
    _, small, medium = localised(RunFacts(run.workspace), "radiology", METHOD)
    assert (small.n, small.hit) == (None, None) and medium.n == 10
    _write(run, ["small"] * 9)
    assert localised(RunFacts(run.workspace), "radiology", METHOD) == ()


def test_several_pictures_of_a_patient_are_one_patient(run: MockRun) -> None:
    """Twelve patients, one of them with 20 films: its films do not outvote the others."""
    table = _write(run, ["large"] * 12, hit=False)
    more = pd.concat([table.iloc[[0]].assign(hit=True)] * 20)
    own = pd.concat([table.iloc[1:], more], ignore_index=True)
    own.to_parquet(run.workspace.root / "explain" / "localisation.parquet")
    every, _ = localised(RunFacts(run.workspace), "radiology", METHOD)
    assert every.n == 12 and every.hit is not None and every.hit.value == pytest.approx(1 / 12)


def test_maps_of_another_method_or_source_say_nothing(run: MockRun) -> None:
    _write(run, ["large"] * 20)
    facts = RunFacts(run.workspace)
    assert localised(facts, "pathology", METHOD) == localised(facts, "radiology", "occlusion") == ()


def test_the_page_shows_it_beside_the_map_and_says_when_nothing_is_known_of_small_ones(run: MockRun) -> None:
    assert "How well such maps point" not in patient_page(RunFacts(run.workspace), run.subject)
    _write(run, ["large"] * 20, hit=True)
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert page.count("How well such maps point") == 1, "beside the film, not the slide"
    assert "100\u00a0% (84 to 100\u00a0%), <span" in page and "20\u00a0% at random" in page
    assert "nothing is known of small ones" in page
    _write(run, ["large"] * 20 + ["small"] * 12)
    assert "nothing is known of small ones" not in patient_page(RunFacts(run.workspace), run.subject)


def test_a_hidden_map_has_no_such_table(run: MockRun) -> None:
    _write(run, ["large"] * 20)
    path = run.workspace.root / "explain" / "standings.parquet"
    pd.read_parquet(path).assign(state="hidden").to_parquet(path)
    assert "How well such maps point" not in patient_page(RunFacts(run.workspace), run.subject)
