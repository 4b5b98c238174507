"""The documents: every figure from the audit, every empty item with its owner, every byte repeatable."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from clinimm.cli import app as application
from clinimm.governance.cards.pointer import read_audit
from clinimm.governance.cards.write import documents, load_source

ROOT = Path(__file__).parents[3]
GOVERNANCE = ROOT / "governance"
MC = "{https://mc.chai.org/v0.2/schema.xsd}"
#: Elements of the card in the order of the schema; + where one must be, without it may be absent.
OUTLINE = {
    "AppliedModelCard": "BasicInfo+ ReleaseInfo+ ModelSummary+ UsesAndDirections+ Warnings+ "
    "TrustIngredients+ KeyMetrics+ Resources+ Bibliography+",
    "BasicInfo": "ModelName+ ModelDeveloper+ DeveloperContact+",
    "ReleaseInfo": "ReleaseStage+ ReleaseDate+ ReleaseVersion+ GlobalAvailability+ EHRCompatibility "
    "RegulatoryApproval",
    "ModelSummary": "Summary+ Keywords+",
    "UsesAndDirections": "IntendedUseAndWorkflow+ PrimaryIntendedUsers+ HowToUse+ TargetedPatientPopulation+ "
    "CautionedOutOfScopeSettings+",
    "Warnings": "KnownRisksAndLimitations+ KnownBiasesOrEthicalConsiderations+ ClinicalRiskLevel+",
    "TrustIngredients": "AISystemFacts+ TransparencyInformation+",
    "AISystemFacts": "OutcomesAndOutputs+ ModelType+ FoundationModels InputDataSource+ "
    "OutputAndInputDataTypes+ DevelopmentDataCharacterization+ BiasMitigationApproaches+ "
    "OngoingMaintenance+ Security Transparency",
    "TransparencyInformation": "FundingSource+ ThirdPartyInformation StakeholdersConsulted+",
    "KeyMetrics": "UsefulnessUsabilityEfficacy+ FairnessEquity+ SafetyReliability+",
    "UsefulnessUsabilityEfficacy": "MetricGoal+ Results+ Interpretation+ TestType+ TestingDataDescription+ "
    "ValidationProcessAndJustification+",
    "Resources": "EvaluationReferences ClinicalTrial PeerReviewedPublications+ ReimbursementStatus "
    "PatientConsentOrDisclosure+",
    "MetricResult": "Label+ ValueJson+",
}
OUTLINE["FairnessEquity"] = OUTLINE["SafetyReliability"] = OUTLINE["UsefulnessUsabilityEfficacy"]


@pytest.fixture
def files(audit_file):
    return documents(load_source(audit_file, GOVERNANCE))


def test_the_card_is_well_formed_and_follows_the_schema_s_outline(files):
    root = ElementTree.fromstring(files["chai.xml"])
    assert root.tag == f"{MC}AppliedModelCard"
    for element in root.iter():
        name = element.tag.removeprefix(MC)
        if name not in OUTLINE:
            continue
        wanted = OUTLINE[name].split()
        found = [child.tag.removeprefix(MC) for child in element]
        assert [one.rstrip("+") for one in wanted if one.rstrip("+") in found] == found, name
        assert {one.rstrip("+") for one in wanted if one.endswith("+")} <= set(found), name
    assert all(len(part) >= 1 for part in root.iter(f"{MC}Results"))


def test_every_fairness_result_has_an_interval_wherever_the_audit_has_one(files, audit):
    root = ElementTree.fromstring(files["chai.xml"])
    part = root.find(f"{MC}KeyMetrics/{MC}FairnessEquity/{MC}Results")
    values = [json.loads(result.findtext(f"{MC}ValueJson")) for result in part]
    assert [value["kind"] for value in values] == ["estimate_ci", "estimate_ci", "single"]
    assert values[0] == {"kind": "estimate_ci", "estimate": 0.17, "lower": 0.13, "upper": 0.21, "level": 95.0}
    assert values[2]["value"] is None
    assert "served worse" in root.findtext(f"{MC}KeyMetrics/{MC}FairnessEquity/{MC}Interpretation")


def test_every_figure_is_the_one_that_its_pointer_leads_to(files, audit_file):
    audit = read_audit(audit_file)
    figures = [one for item in json.loads(files["hti1.json"])["attributes"] for one in item["figures"]]
    assert len(figures) > 30
    for figure in figures:
        at = audit.resolve(figure["pointer"])
        if isinstance(at, list):
            assert [figure["value"], figure["low"], figure["high"]] == at, figure["label"]
        elif isinstance(at, dict):
            known = {name: figure[name] for name in ("low", "high", "n") if name in figure}
            assert known | {"value": figure["value"]} == {name: at[name] for name in (*known, "value")}
        else:
            assert figure["value"] == at, figure["label"]
    root = ElementTree.fromstring(files["chai.xml"])
    for result in root.iter(f"{MC}MetricResult"):
        pointer = re.search(r"\[audit\.json (\S+)\]", result.findtext(f"{MC}Label"))[1]
        value = json.loads(result.findtext(f"{MC}ValueJson"))
        at = audit.resolve(pointer)
        wanted = at if isinstance(at, list) else [at["value"], at["low"], at["high"]]
        assert [value.get("estimate", value.get("value")), value.get("lower"), value.get("upper")] == wanted


def test_no_decimal_in_any_text_is_without_its_pointer(files):
    for name in ("annex_iv.md", "tripod_ai.csv"):
        for line in re.split(r"\n|; ", files[name].decode()):
            plain = re.sub(r"\\", "", line)
            if re.search(r"(?<![\w.])0\.\d+(?![\w.])", plain):
                assert "[audit.json /" in plain, plain


def test_another_figure_in_the_audit_is_another_figure_in_every_document(files, audit, audit_file):
    audit["findings"][0]["value"] = 0.4242
    audit["groups"][0]["figures"]["auroc"][0] = 0.4343
    audit_file.write_text(json.dumps(audit))
    after = documents(load_source(audit_file, GOVERNANCE))
    for name, content in after.items():
        assert content != files[name], name
        assert b"0.424" in content, name
        assert b"0.434" in content, name


def test_an_empty_item_names_its_owner(files):
    attributes = {one["clause"]: one for one in json.loads(files["hti1.json"])["attributes"]}
    assert len(attributes) == 31
    funding = attributes["(1)(ii)"]
    assert (funding["state"], funding["texts"], funding["figures"]) == ("empty", [], [])
    assert funding["empty"] == [{"question": "Who paid for it?", "owner": "sponsor (nobody named yet)"}]
    words = "Empty. Who paid for it? To be answered by: sponsor (nobody named yet)."
    root = ElementTree.fromstring(files["chai.xml"])
    assert root.findtext(f".//{MC}FundingSource") == words
    rows = {row["item"]: row for row in csv.DictReader(io.StringIO(files["tripod_ai.csv"].decode()))}
    assert (rows["18a"]["state"], rows["18a"]["empty"]) == ("empty", words)
    assert r"**Empty. Who made the model?" in files["annex_iv.md"].decode()
    assert all(one["state"] == "filled" or one["empty"] for one in attributes.values())


def test_external_figures_are_never_taken_from_internal_data(audit, audit_file):
    def states(stated=None):
        content = json.loads(documents(load_source(audit_file, GOVERNANCE, (), stated))["hti1.json"])
        return {
            one["clause"] for one in content["attributes"] if one["figures"] and "(7)" in one["clause"]
        } | {one["clause"] for one in content["attributes"] if one["figures"] and "(8)" in one["clause"]}

    assert states() == {"(7)(i)", "(7)(ii)"}
    audit["tested"]["kind"] = "export"
    audit_file.write_text(json.dumps(audit))
    assert states() == {"(7)(iii)", "(7)(iv)"}
    audit["tested"]["kind"] = "table"
    audit_file.write_text(json.dumps(audit))
    assert states() == set()
    assert states("local") == {"(8)(ii)", "(8)(iv)"}


def test_a_table_without_model_run_or_policy_file_has_documents_too(audit, audit_file):
    audit["run"] = audit["policy"]["sha256"] = None
    del audit["tested"]["model_digest"]
    audit["tested"]["kind"] = "table"
    audit_file.write_text(json.dumps(audit))
    root = ElementTree.fromstring(documents(load_source(audit_file, GOVERNANCE))["chai.xml"])
    assert root.findtext(f".//{MC}ModelName") == "predictions.parquet"
    assert "model digest not known [audit.json /tested/model_digest]" in root.findtext(
        f".//{MC}ReleaseVersion"
    )


def test_hostile_names_of_groups_stay_text(audit, audit_file):
    bad = "=1+1 <b>x</b>\x00\x1b `|"
    audit["findings"][0]["level"] = bad
    audit["groups"][1]["levels"] = [bad]
    audit["not_known"] = [bad]
    audit["sentence"] = bad
    audit_file.write_text(json.dumps(audit))
    made = documents(load_source(audit_file, GOVERNANCE))
    root = ElementTree.fromstring(made["chai.xml"])
    assert "<b>x</b>" in "".join(root.itertext())
    assert "<b>" not in made["annex_iv.md"].decode().replace(r"\<b\>", "")
    assert b"\x00" not in made["annex_iv.md"] + made["tripod_ai.csv"]
    for row in csv.reader(io.StringIO(made["tripod_ai.csv"].decode())):
        assert not [cell for cell in row if cell.startswith("=")]


def test_the_same_audit_gives_the_same_bytes_and_check_finds_any_other(audit_file, tmp_path, capsys):
    out = tmp_path / "cards"
    command = ["governance", "cards", str(audit_file), "--out", str(out), "--governance", str(GOVERNANCE)]
    assert application.run(command) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "annex_iv.md",
        "chai.xml",
        "hti1.json",
        "tripod_ai.csv",
    ]
    assert application.run([*command, "--check"]) == 0
    card = out / "chai.xml"
    card.write_bytes(card.read_bytes().replace(b"0.17", b"0.01"))
    assert application.run([*command, "--check"]) == 4
    assert "chai.xml" in capsys.readouterr().err


def test_a_run_says_its_own_question_and_inputs_and_people_come_first(audit, tmp_path):
    folder = tmp_path / "ward" / "audit" / "published"
    folder.mkdir(parents=True)
    (folder / "audit.json").write_text(json.dumps(audit))
    (tmp_path / "ward" / "cohort.yaml").write_text(
        "question: Will it turn into sepsis?\ninputs: {ehr: {include: [LOINC//2160-0]}, notes: }\n"
    )
    (tmp_path / "ward" / "pipeline.yaml").write_text("modalities: {notes: {encoder: {name: minilm}}}\n")
    root = ElementTree.fromstring(documents(load_source(folder / "audit.json", GOVERNANCE))["chai.xml"])
    assert root.findtext(f".//{MC}Summary") == "The model answers: Will it turn into sepsis?"
    assert "notes: minilm" in root.findtext(f".//{MC}FoundationModels")
    card = tmp_path / "card.yaml"
    card.write_text("schema: clinimm.card/1\ntopics: {summary: {text: Ours.}}\n")
    made = documents(load_source(folder / "audit.json", GOVERNANCE, (card,)))
    assert ElementTree.fromstring(made["chai.xml"]).findtext(f".//{MC}Summary") == "Ours."
    assert "ehr, codes LOINC//2160-0; notes, everything on record" in made["tripod_ai.csv"].decode()


def test_a_table_of_another_form_is_bad_input(audit_file, tmp_path, capsys):
    audit_file.write_text("{}")
    assert application.run(["governance", "cards", str(audit_file), "--out", str(tmp_path / "x")]) == 3
    assert not (tmp_path / "x").exists()
