from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clinimm.config import PipelineConfig
from clinimm.core.errors import MissingStageError
from clinimm.modalities.pathology.synthetic import is_synthetic
from clinimm.modalities.synthetic import read_mark
from clinimm.progress import QUIET
from clinimm.report.stain_facts import StainFacts
from clinimm.report.stain_page import stain_page
from clinimm.report.staining import run as run_report
from clinimm.report.staining import write_figures
from clinimm.staining.label_mark import shows_label
from clinimm.staining.pair_store import PairStore
from clinimm.staining.prediction_store import Results
from clinimm.staining.stages.audit import audit_groups
from clinimm.staining.verdict import AS_REGISTERED
from clinimm.workspace import Workspace
from tests.report.stain_toy import MODEL, SIDE, STAIN, build_stain_run


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = build_stain_run(tmp_path_factory.mktemp("stain"))
    run_report(workspace, QUIET)
    return workspace


def page(workspace: Workspace, name: str) -> str:
    return (workspace.root / "report" / name).read_text(encoding="utf-8")


def pictures(text: str) -> list[Image.Image]:
    found = re.findall(r'id="(\w+-\d+)" href="data:image/(?:png|jpeg);base64,([^"]+)"', text)
    return {key: Image.open(io.BytesIO(base64.b64decode(content))) for key, content in found}


def test_it_leads_with_the_verdict_and_links_each_region(toy: Workspace) -> None:
    text = page(toy, "index.html")
    sentence = json.loads((toy.root / "evaluate" / "metrics.json").read_text())["stains"][STAIN]["verdict"][
        "sentence"
    ]
    assert (
        text.index(sentence[:40])
        < text.index(">What it is not for</h3>")
        < text.index("The model beside the baselines")
    )
    for number in (1, 2, 3):
        assert f'href="regions/{number}.html"' in text
        assert (toy.root / "report" / "regions" / f"{number}.html").exists()
    assert not (toy.root / "report" / "regions" / "4.html").exists()


def test_pairs_that_nobody_registered_are_said_to_be_so(tmp_path: Path) -> None:
    workspace = build_stain_run(tmp_path)
    measured = stain_page(StainFacts(workspace), [])
    assert "median registration error 0.8 µm" in measured and AS_REGISTERED not in measured
    assert workspace.config.staining is not None
    alone = workspace.config.staining.model_copy(update={"register_pairs": False})
    facts = StainFacts(Workspace(workspace.config.model_copy(update={"staining": alone})))
    facts.metrics["stains"][STAIN]["registration_error_um"] = None
    (workspace.root / "encode" / "pairs" / "registration.parquet").unlink()
    text = stain_page(facts, [])
    assert "registration error not measured" in text
    assert f"No pair was registered in this run. {AS_REGISTERED}" in text


def test_what_refusal_costs_is_an_estimate_and_no_promise(toy: Workspace) -> None:
    facts = StainFacts(toy)
    left_out = {"share": 0.16, "low": 0.02, "high": 0.3, "subjects": 8, "promised": 1 / 9}
    safety = facts.metrics["stains"][STAIN]["safety"]
    safety["refusal"] = [{"fit": "r0-f0", "aim": 0.05, "left_out": left_out}]
    said = facts.refusal_sentence(STAIN)
    assert "at most 5% of the tuning tiles" in said and "16% (2% to 30%, n = 8 subjects)" in said
    assert "an estimate, not a promise" in said and "one new person in 9 (11%) or more" in said
    assert f"<p>{said}</p>" in stain_page(facts, [])  # in full size, not in small print
    safety["refusal"] = [{"fit": "r0-f0", "aim": 0.05, "left_out": None}]
    assert "nobody knows what they refuse of other people's tissue" in facts.refusal_sentence(STAIN)
    safety["refusal"] = []
    assert facts.refusal_sentence(STAIN) == ""


@pytest.mark.parametrize(
    ("key", "tone", "words"),
    [
        ("learnable", "pass", "learnable"),
        ("not_learnable", "fail", "not learnable from these data"),
        ("cannot_tell", "unsure", "cannot tell"),
    ],
)
def test_each_verdict_has_its_own_words(toy: Workspace, key: str, tone: str, words: str) -> None:
    facts = StainFacts(toy)
    facts.metrics["stains"][STAIN]["verdict"].update(key=key, use="copy")
    verdict = facts.verdict(STAIN)
    assert (verdict.tone, verdict.title) == (tone, f"{STAIN}: {words}")
    assert ("copy" in verdict.points[0]) == (key != "learnable")


def test_groups_of_people_stand_with_figures_or_the_words_too_few(toy: Workspace) -> None:
    subjects = [f"S{number}" for number in range(12)]
    women = np.arange(12) < 6
    tiles = pd.DataFrame(
        {"subject_id": subjects, "stain": STAIN, "error": 0.1 + 0.05 * women, "refused": women}
    ).astype({"refused": float})
    cohort = pd.DataFrame(
        {"subject_id": subjects, "sex": np.where(women, "female", "male"), "site_id": ["a"] * 11 + ["b"]}
    )
    facts = StainFacts(toy)
    facts.run.audit = {"verdict": "broken", "sentence": "No.", "groups": audit_groups(tiles, cohort)}
    text = stain_page(facts, [])
    table = text[text.index('id="groups"') : text.index('id="registration"')]
    row = next(part for part in table.split("<tr>") if "sex female" in part)
    cells = re.findall(r'<td class="figure">([^<]*)', row)
    assert cells == ["6", "0.150", "+0.050", "1.00", "+1.00"]
    assert "too few" in next(part for part in table.split("<tr>") if "site id b" in part)


def test_the_table_says_every_figure_with_its_n_and_the_gain_over_the_best_baseline(toy: Workspace) -> None:
    facts = StainFacts(toy)
    table = pd.read_parquet(toy.root / "evaluate" / "table.parquet")
    assert facts.methods(STAIN) == (MODEL, "copy", "mean_colour")
    lines = facts.lines(STAIN)
    assert [line.name for line in lines[:2]] == list(facts.deciding(STAIN))
    gains = table[table["method"].str.startswith(f"{MODEL} - ")].set_index("metric")
    for line in lines:
        own = table[(table["method"] == MODEL) & (table["metric"] == line.name)].iloc[0]
        assert line.n == own["n"] == 5
        if line.gain is None:
            assert line.name not in gains.index
            continue
        assert line.gain["value"] == pytest.approx(gains.loc[line.name, "value"])
        assert f"{MODEL} - {line.against}" == gains.loc[line.name, "method"]
    better = {line.name: line.better for line in lines}
    assert (better["psnr"], better["count_error"]) == ("higher", "lower")


@pytest.mark.parametrize(
    ("low", "high", "metric", "said"),
    [
        (-0.1, 0.2, "region_correlation", "On none of 1 measures"),
        (0.1, 0.2, "region_correlation", "better on Stain in regions, beyond tissue and nuclei"),
        (0.1, 0.2, "count_error", "worse on Error of the number of nuclei"),
        (-0.2, -0.1, "count_error", "better on Error of the number of nuclei"),
        (None, None, "count_error", "nobody knows what the record adds"),
    ],
)
def test_what_the_record_adds_follows_the_interval_and_which_way_is_better(
    toy: Workspace, low: float | None, high: float | None, metric: str, said: str
) -> None:
    facts = StainFacts(toy)
    change = {"value": 0.0, "low": low, "high": high, "n": 5, "unit": "", "reason": ""}
    facts.metrics["stains"][STAIN]["record_adds"] = {metric: change}
    assert said in facts.record_sentence(STAIN)


def test_the_first_page_is_of_the_riskiest_region(toy: Workspace) -> None:
    tiles = pd.read_parquet(toy.root / "predict" / "tiles.parquet")
    worst = tiles.loc[tiles["risk"].idxmax(), "subject_id"]
    assert f"<code>{worst}</code>" in page(toy, "regions/1.html")
    assert "number 1 of 5 held-out regions, the riskiest" in page(toy, "regions/1.html")


def test_every_virtual_picture_of_a_page_is_marked_in_the_file_and_in_the_pixels(toy: Workspace) -> None:
    for number in (1, 2, 3):
        text = page(toy, f"regions/{number}.html")
        found = pictures(text)
        assert {"virtual-0", "plain-0", "real-0", "error-0"} <= set(found)
        for key in ("virtual-0", "plain-0"):
            assert found[key].format == "PNG"
            assert read_mark(found[key].text["Comment"], "").stain == STAIN
            assert shows_label(np.asarray(found[key].convert("RGB"))[:128, :256])
        assert not shows_label(np.asarray(found["real-0"])[:128, :256])
        assert text.count('class="chip made"') == 2  # on the virtual picture, and under the expected error
        assert 'class="chip left made"' in text


def test_what_is_refused_is_nowhere_on_the_page(toy: Workspace) -> None:
    results = Results(toy.root / "predict", PairStore(toy.root / "encode" / "pairs"))
    worst = next(one for one in results if one.region.pair.subject_id == "S4")
    refused = worst.refused(STAIN)
    assert refused.any()
    shown = np.asarray(pictures(page(toy, "regions/1.html"))["virtual-0"])
    inside = refused.copy()
    inside[:96, :] = False  # the label lies there
    assert set(np.unique(shown[inside])) == {120, 208}
    assert "contradicts the source" in page(toy, "regions/1.html")
    assert "Every tile is refused, so nothing is counted." in page(toy, "regions/1.html")


def test_a_safe_region_has_numbers_and_its_explanation(toy: Workspace) -> None:
    text = page(toy, "regions/3.html")
    assert "Positivity index" in text
    assert "None of 9 tiles is refused." in text
    assert "LOINC//1 = 3" in text
    assert "+0.1500" in text
    assert "What raised and lowered" not in page(toy, "regions/2.html")


def test_registration_says_before_after_and_why_a_slide_was_refused(toy: Workspace) -> None:
    text = page(toy, "index.html")
    assert "S0 KI67 20.0 µm to 5.0 µm, refused" in text
    assert "5.0 um remain" in text
    assert re.search(r"22\.0<br><span class=\"quiet\">p90 40\.0, n = 5", text)


def test_two_runs_of_the_stage_write_the_same_bytes(toy: Workspace) -> None:
    folder = toy.root / "report"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run_report(toy, QUIET)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_figures_are_files_and_those_with_a_virtual_stain_are_marked(toy: Workspace, tmp_path: Path) -> None:
    paths = write_figures(toy, tmp_path / "figures")
    names = {path.name for path in paths}
    assert {
        f"reliability-{STAIN}.svg",
        f"refusal-{STAIN}.svg",
        "registration.svg",
        f"region-1-{STAIN}.png",
    } <= names
    for path in paths:
        assert path.stat().st_size > 500
        assert (is_synthetic(path) is not None) == (path.suffix == ".png")


def test_no_pages_where_none_are_asked_for(toy: Workspace, tmp_path: Path) -> None:
    config = toy.config.model_dump(by_alias=True) | {
        "report": {"patients": 0},
        "runs_dir": toy.config.runs_dir,
    }
    notes = run_report(Workspace(PipelineConfig.model_validate(config)), QUIET)
    assert notes["regions"] == 0
    run_report(toy, QUIET)


def test_a_run_that_was_not_evaluated_names_the_verb_that_does_it(tmp_path: Path) -> None:
    config = PipelineConfig.model_validate({"name": "empty", "runs_dir": tmp_path, "staining": {}})
    with pytest.raises(MissingStageError, match="clinimm encode"):
        run_report(Workspace(config), QUIET)


def test_without_explanations_and_registration_the_pages_are_written(tmp_path: Path) -> None:
    workspace = build_stain_run(tmp_path, side=128, explained=False)
    for name in ("registration.parquet", "refusals.parquet"):
        (workspace.root / "encode" / "pairs" / name).unlink()
    assert run_report(workspace, QUIET)["regions"] == 3
    assert "No pair was registered in this run." in page(workspace, "index.html")


def test_pages_are_written_without_torch() -> None:
    code = "import sys, clinimm.report.staining; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_scale_of_the_toy_is_that_of_the_page(toy: Workspace) -> None:
    assert f'data-width="{SIDE}" data-height="{SIDE}" data-um="0.5"' in page(toy, "regions/1.html")
