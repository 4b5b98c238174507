from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from clinimm.core.errors import DataError
from clinimm.core.pseudonym import KEY_VARIABLE
from clinimm.report.facts import RunFacts
from clinimm.report.page import asset
from clinimm.report.patient_report import MAX_BYTES, patient_page, write_patient_report
from clinimm.workspace import Workspace
from tests.report.conftest import NOTE, MockRun

_POLICY = "schema: clinimm.policy/1\nrules: [{id: useful, metric: auroc, stat: value, above: 0.5}]\n"
_OWN_SCRIPTS = (asset("patient_viewer.js"),)
_PAGES = {"model_card.html", "../model_card.html", "index.html", "../audit/audit.html"}


class Elements(HTMLParser):
    """Every tag with its attributes, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def dangerous(page: str) -> list[str]:
    """What on a page could run or load something."""
    found = []
    for tag, attributes in Elements(page).found:
        if tag in {"iframe", "object", "embed", "form", "link", "base"}:
            found.append(tag)
        for name, value in attributes.items():
            text = (value or "").strip().lower()
            if name.startswith("on") or text.startswith(("javascript:", "http:", "https:", "//")):
                found.append(f"{tag} {name}={value}")
            local = text.startswith(("#", "data:image/", "patients/")) or text in _PAGES
            if name in {"href", "src", "srcdoc"} and not local:
                found.append(f"{tag} {name}={value}")
    scripts = re.findall(r"<script[^>]*>(.*?)</script", page, re.DOTALL | re.IGNORECASE)
    return found + [text for text in scripts if text not in _OWN_SCRIPTS]


def test_hostile_text_stays_text(make_run: Callable, xss: tuple[str, ...]) -> None:
    """Every string of every source holds the whole set: record, note, DICOM attributes, cohort."""
    hostile = " ".join(xss)
    run = make_run(hostile=hostile)
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert dangerous(page) == []
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5
    assert "{{ 7 * 7 }}" in page, "data must not be read as a template"
    assert not any(text in page for text in xss if "<" in text)
    assert not set(page) & {"\u202e", "\u2066", "\u200f", "\ufeff", "\x00"}, "nothing unseen is left"


def test_the_policy_allows_the_own_stylesheet_and_script_and_nothing_else(run) -> None:
    page = patient_page(RunFacts(run.workspace), run.subject)
    (policy,) = [
        meta["content"] or ""
        for meta in Elements(page).named("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert not re.search(r'\sstyle="', page), "the policy blocks style attributes"


def test_the_page_is_small_and_the_same_every_time(run, tmp_path: Path) -> None:
    first = write_patient_report(run.workspace, run.subject, tmp_path / "a.html").read_bytes()
    second = write_patient_report(run.workspace, run.subject, tmp_path / "b.html").read_bytes()
    assert first == second
    assert len(first) < MAX_BYTES


def test_the_first_screen_leads_with_answer_performance_and_verdicts(run) -> None:
    page = patient_page(RunFacts(run.workspace), run.subject)
    first_screen = page[: page.index('id="why"')]
    for words in (
        "Will this patient need intensive care?",
        "Research use only",
        "operating point of",
        "How well it works for patients like this one",
        "sex: female",
        "too few patients to show",
        "Audit: inconclusive",
        "Does combining the sources help?",
        "How well this works:",
        "95&nbsp;% interval",
        "of 100 patients like this one would be expected to have it",
        "What was there, and what its absence costs",
        "Like the patients it learned from?",
    ):
        assert words in first_screen
    prediction = RunFacts(run.workspace).predictions.set_index("subject_id").loc[run.subject]
    assert f"{round(100 * prediction['probability'])}\u00a0%" in first_screen


def test_evidence_is_in_the_records_own_words(run) -> None:
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert "Creatinine (LOINC 2160-0)" in page
    assert "1.9 mg/dL" in page and "(high)" in page and "0.6 to 1.2" in page
    assert "30 h before" in page and "2024-03-01 04:00 UTC" in page
    assert "needs oxygen at 4 litres. No</q>" in page
    start = NOTE.index("needs oxygen")
    assert f"{start} to {start + 28}" in page
    assert '<mark class="raises">needs oxygen at 4 litres. No<sup>+0.52</sup></mark>' in page
    assert '<mark class="lowers">No chest pain' not in page, "overlapping marks go to the stronger"
    assert "data:image/png;base64," in page


def test_nothing_later_than_the_index_time_and_no_name_is_on_the_page(run) -> None:
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert "777" not in re.sub(r"[0-9a-f]{64}|base64,[A-Za-z0-9+/=]+", "", page)
    assert (
        "Doe^" not in page
        and "Jane" not in page
        and "MRN1" not in page
        and str(run.workspace.root) not in page
    )


def test_absent_modalities_are_named(run) -> None:
    page = patient_page(RunFacts(run.workspace), run.bare)
    assert page.count("not there for this patient") == 2
    assert "was not explained in this run" in page
    assert "With these sources alone" in page


def test_without_the_key_the_page_says_so(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "another key of enough length")
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert "The picture cannot be shown" in page and "another pseudonym key" in page
    assert "data:image/png" not in page


def test_without_the_files_the_page_says_so(run, tmp_path: Path) -> None:
    (tmp_path / "data" / "film.dcm").unlink()
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert page.count("The picture cannot be shown") == 2
    assert str(tmp_path) not in page


def test_a_run_that_was_never_evaluated_or_audited_says_so(run) -> None:
    shutil.rmtree(run.workspace.root / "evaluate")
    shutil.rmtree(run.workspace.root / "audit")
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert "This run was not evaluated" in page and "This run was not audited" in page


def test_an_explanation_of_another_model_is_not_shown(run) -> None:
    path = run.workspace.root / "predict" / "predictions.parquet"
    pd.read_parquet(path).assign(model_digest="e" * 64).to_parquet(path)
    assert "was not explained in this run" in patient_page(RunFacts(run.workspace), run.subject)


def test_a_failed_check_is_said_beside_the_maps(run) -> None:
    path = run.workspace.root / "explain" / "summary.parquet"
    pd.read_parquet(path).assign(deletion_auc=0.9).to_parquet(path)
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert "no better than chance" in page and "Do not rely on the maps" in page


def test_a_subject_that_was_trained_on_gets_no_page(run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no held-out prediction"):
        write_patient_report(run.workspace, "nobody", tmp_path / "x.html")


def test_every_picture_has_words_and_every_control_a_label(run) -> None:
    page = patient_page(RunFacts(run.workspace), run.subject)
    elements = Elements(page)
    for svg in elements.named("svg"):
        assert svg.get("aria-label") or svg.get("aria-hidden") == "true"
    assert all(image.get("alt") for image in elements.named("img"))
    assert len(re.findall(r"<label>\w+ <input", page)) == len(elements.named("input")) > 0
    assert elements.named("html")[0]["lang"] == "en"


def _set_standing(run, state: str, sentence: str) -> None:
    path = run.workspace.root / "explain" / "standings.parquet"
    pd.read_parquet(path).assign(state=state, failed='["deletion"]', sentence=sentence).to_parquet(path)


def test_maps_that_failed_are_struck_out_with_the_reason(run) -> None:
    _set_standing(run, "struck_out", "Struck out: it points at nothing.")
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert page.count("Struck out: it points at nothing.") == 5, "budget, film, slide, note, record"
    assert 'class="strike"' in page and "map-card struck" in page


def test_maps_that_the_policy_hides_are_left_out_with_the_reason(run) -> None:
    _set_standing(run, "hidden", "Not shown: it survives the loss of everything learned.")
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert page.count("Not shown: it survives the loss of everything learned.") == 5
    assert "<mark" not in page and 'class="map"' not in page and "Speaks for it" not in page
    assert "data:image/png;base64," in page and "needs oxygen at 4 litres" in page, "the record itself stays"
    assert 'class="waterfall"' not in page


def test_each_map_says_its_method_role_and_caveat(run) -> None:
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert page.count("Integrated gradients, an attribution.") == 5
    assert page.count("not what a change of one part alone would do.") == 5


def test_context_is_never_called_an_attribution(run) -> None:
    path = run.workspace.root / "explain" / "summary.parquet"
    pd.read_parquet(path).assign(method="attention_rollout").to_parquet(path)
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert "Attention rollout, context only, not an attribution." in page


def test_nothing_that_lies_in_the_run_takes_the_banner_away(run) -> None:
    """Only what people signed does: tests/serve/test_approved.py shows that side."""
    banner = "Research use only. Not for diagnosis"
    root = run.workspace.root
    claims = {"alias": "champion", "candidate": True, "released": True, "promoted": True, "version": 1}
    for name in ("register/registration.json", "gate/filed.json"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(json.dumps(claims))
    audit = root / "audit" / "audit.json"
    audit.write_text(json.dumps(json.loads(audit.read_text()) | {"exit_status": 0}))
    assert banner in patient_page(RunFacts(run.workspace), run.subject)


def test_a_run_of_an_earlier_version_still_has_pages(run) -> None:
    for name in ("standings", "checks", "interactions"):
        (run.workspace.root / "explain" / f"{name}.parquet").unlink()
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert "Nobody checked this map in this run." in page and "left no table of checks" in page


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("explanations: {rules: [{check: completeness, limit: 0.125}]}", "Above 12.5\u00a0% of the change"),
        ("explanations: {rules: [{check: completeness, limit: 0.0001}]}", "<td>does not hold: residual"),
        ("explanations: {rules: []}", "The policy sets no limit."),
    ],
)
def test_the_limit_of_what_may_be_left_over_is_the_policys(
    run, tmp_path: Path, policy: str, said: str
) -> None:
    (tmp_path / "policy.yaml").write_text(f"{_POLICY}{policy}\n")
    config = run.workspace.config
    audit = config.audit.model_copy(update={"policy": tmp_path / "policy.yaml"})
    workspace = Workspace(config.model_copy(update={"audit": audit}))
    page = patient_page(RunFacts(workspace), run.subject)
    assert said in page
    assert "Above 5" not in page


def test_what_parts_are_counted_from_is_what_the_run_says(run) -> None:
    path = run.workspace.root / "explain" / "attributions.parquet"
    pd.read_parquet(path).assign(baseline="tokens drawn at random").to_parquet(path)
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert "uninformative" not in page
    checks = page[page.index('id="checks"') : page.index('id="origin"')]
    assert "integrated gradients, counted from: every source, tokens drawn at random" in checks


def test_each_printed_sheet_says_research_use_unless_released(run, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = '@bottom-left { content: "Research use only.'
    assert sheet in patient_page(RunFacts(run.workspace), run.subject)
    monkeypatch.setattr(RunFacts, "released", True)
    assert sheet not in patient_page(RunFacts(run.workspace), run.subject)


def test_a_framed_page_leaves_the_banner_to_the_page_around_it_and_keeps_it_on_paper(run) -> None:
    alone = patient_page(RunFacts(run.workspace), run.subject)
    framed = patient_page(RunFacts(run.workspace), run.subject, framed=True)
    assert '<html lang="en">' in alone
    assert framed == alone.replace('<html lang="en">', '<html lang="en" class="framed">')
    assert "@media screen { .framed .banner { display: none; } }" in framed


def test_a_check_that_was_not_made_is_not_called_failed(run) -> None:
    path = run.workspace.root / "explain" / "summary.parquet"
    table = pd.read_parquet(path)
    table.assign(deletion_auc=float("nan"), deletion_auc_random=float("nan")).to_parquet(path)
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert "no better than chance" not in page
    assert "Do not rely on the maps above" not in page
    assert "not measured" in page


def test_an_outside_modality_obeys_its_own_standing(run) -> None:
    path = run.workspace.root / "explain" / "attributions.parquet"
    table = pd.read_parquet(path)
    mine = table[(table["subject_id"] == run.subject) & (table["kind"] == "event")].iloc[[0]]
    odd = mine.assign(kind="seconds", modality="wearable", text="lead II, 3 to 4 s", score=0.7654)
    pd.concat([table, odd], ignore_index=True).to_parquet(path)
    standing = run.workspace.root / "explain" / "standings.parquet"
    states = pd.read_parquet(standing)
    own = states[states["subject_id"] == run.subject].iloc[[0]].assign(modality="wearable", state="hidden")
    pd.concat([states, own], ignore_index=True).to_parquet(standing)
    assert "lead II, 3 to 4 s" not in patient_page(RunFacts(run.workspace), run.subject)
    pd.concat([states, own.assign(state="shown")], ignore_index=True).to_parquet(standing)
    assert "lead II, 3 to 4 s" in patient_page(RunFacts(run.workspace), run.subject)


def test_no_two_elements_share_an_id(run) -> None:
    """Two pictures and their headings: an overlay refers to its picture by id."""
    table = pd.read_parquet(run.workspace.root / "ingest" / "events.parquet")
    table.loc[table["code"] == "SLIDE//HE", "uri"] = table.loc[table["code"] == "DICOM//CR", "uri"].iloc[0]
    table.to_parquet(run.workspace.root / "ingest" / "events.parquet")
    path = run.workspace.root / "explain" / "attributions.parquet"
    parts = pd.read_parquet(path)
    path_parts = parts["modality"] == "pathology"
    parts.loc[path_parts, ["kind", "text"]] = ["pixels", "SM, frame 0, pixels 0-0-9-9"]
    parts.to_parquet(path)
    page = patient_page(RunFacts(run.workspace), run.subject)
    ids = [attributes["id"] for _, attributes in Elements(page).found if attributes.get("id")]
    assert len(ids) == len(set(ids))
    images = {attributes["id"] for attributes in Elements(page).named("image")}
    assert len(images) == 2
    assert {(use["href"] or "")[1:] for use in Elements(page).named("use")} == images


def _note_of(run: MockRun, text: str, places: list[tuple[int, int]], copies: int = 1) -> None:
    """The run's note becomes another one, with these passages; ``copies`` notes of the kind."""
    ingest = run.workspace.root / "ingest" / "events.parquet"
    events = pd.read_parquet(ingest)
    notes = events["code"] == "LOINC//11506-3"
    explain = run.workspace.root / "explain" / "attributions.parquet"
    parts = pd.read_parquet(explain)
    own = parts[parts["kind"] == "characters"].iloc[[0]]
    rows, cells = [], []
    for copy in range(copies):
        digest = f"{copy:064d}"
        rows.append(events[notes].assign(text_value=text, digest=digest))
        cells += [
            own.assign(digest=digest, box=json.dumps([start, stop]), text=text[start:stop], score=0.1 + place)
            for place, (start, stop) in enumerate(places)
        ]
    pd.concat([events[~notes], *rows], ignore_index=True).to_parquet(ingest)
    kept = parts[parts["kind"] != "characters"]
    pd.concat([kept, *cells], ignore_index=True).to_parquet(explain)


_LINE = "The patient was seen on the ward & is <well>. "


@pytest.mark.parametrize(
    ("text", "places", "copies"),
    [
        (_LINE * 30_000, [(place * 130_000, place * 130_000 + 40) for place in range(10)], 1),
        (_LINE * 1_200, [(place * 5_000, place * 5_000 + 400) for place in range(10)], 60),
        ("&" * 2_000_000, [(0, 2_000_000)], 1),
        ("\u202e" * 300_000, [(100, 200)], 4),
        (_LINE * 5, [(0, 100)], 512),
    ],
    ids=["one of a million characters", "sixty long ones", "one passage", "unseen characters", "512 notes"],
)
def test_notes_never_make_a_page_too_large_nor_lose_a_marked_passage(
    run: MockRun, text: str, places: list[tuple[int, int]], copies: int
) -> None:
    _note_of(run, text, places, copies)
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert len(page.encode()) < MAX_BYTES
    assert page.count("<q>") >= len(places) * copies, "each passage is quoted"
    if len(text) > 50_000:
        left = re.search(r"The note is long: ([\d,]+) of its ([\d,]+) characters are left out", page)
        assert left is not None and int(left[2].replace(",", "")) == len(text)
        assert int(left[1].replace(",", "")) > 10_000


def test_a_short_note_is_whole(run: MockRun) -> None:
    assert "left out here" not in patient_page(RunFacts(run.workspace), run.subject)


def test_long_values_and_endless_series_do_not_make_a_page_too_large(run: MockRun) -> None:
    ingest = run.workspace.root / "ingest" / "events.parquet"
    events = pd.read_parquet(ingest)
    pulse = events[events["code"] == "LOINC//59408-5"]
    hours = pd.to_timedelta(range(1, 20_001), unit="min")
    many = pd.concat([pulse] * 20_000, ignore_index=True).assign(time=pulse["time"].iloc[0] - hours)
    many["time"] = many["time"].astype(events["time"].dtype)
    events.loc[events["code"] == "local//", "text_value"] = "yes" * 500_000
    pd.concat([events, many], ignore_index=True).to_parquet(ingest)
    path = run.workspace.root / "explain" / "attributions.parquet"
    parts = pd.read_parquet(path)
    parts.loc[parts["text"].str.startswith("local//"), "text"] = "local// = " + "yes" * 500_000
    parts.to_parquet(path)
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert len(page.encode()) < MAX_BYTES
    assert "the last 150 of 20,001 values" in page
    assert "… (1,499,600 more characters)" in page


def test_what_the_audit_could_not_settle_for_the_patients_groups_is_on_the_first_screen(run: MockRun) -> None:
    path = run.workspace.root / "audit" / "audit.json"
    audit = json.loads(path.read_text())
    for finding in audit["findings"]:
        finding["verdict"] = "pass"
    path.write_text(json.dumps(audit))
    assert "Not settled for" not in patient_page(RunFacts(run.workspace), run.subject)
    for finding in audit["findings"]:
        if (finding["attribute"], finding["level"]) in {("sex", "female"), ("sex", "male")}:
            finding["verdict"] = "inconclusive"
    path.write_text(json.dumps(audit))
    page = patient_page(RunFacts(run.workspace), run.subject)
    first_screen = page[: page.index('id="why"')]
    assert "Not settled for this patient's groups." in first_screen
    assert (
        "<strong>sex: female:</strong>" in first_screen and "how many who have it are missed" in first_screen
    )
    assert "male:</strong>" not in first_screen.replace("female", ""), "of the patient's own groups only"


def test_a_map_that_nobody_checked_is_struck_out_unless_the_policy_says_otherwise(
    run: MockRun, tmp_path: Path
) -> None:
    path = run.workspace.root / "explain" / "standings.parquet"
    pd.read_parquet(path).iloc[:0].to_parquet(path)
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert page.count("Do not read this map.") >= 4
    (tmp_path / "policy.yaml").write_text(f"{_POLICY}explanations: {{unmeasured: shown}}\n")
    audit = run.workspace.config.audit.model_copy(update={"policy": tmp_path / "policy.yaml"})
    lax = Workspace(run.workspace.config.model_copy(update={"audit": audit}))
    assert "Do not read this map." not in patient_page(RunFacts(lax), run.subject)
