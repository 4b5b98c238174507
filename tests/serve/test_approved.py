"""A run is served while the gate lets it through, and says so; every other run is refused, or research."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from clinimm.core.bundle import files_of
from clinimm.core.record import RunRecord, digest_file, digest_tree
from clinimm.gate.approval import APPROVAL_SUFFIX, Terms, sign_approval
from clinimm.gate.check import check_run
from clinimm.gate.evidence import gather
from clinimm.gate.log import PROMOTED, Entry, append, digests_of, log_folder
from clinimm.gate.rules import Governance
from clinimm.register.artifact import write_artifact
from clinimm.register.manifest import write_manifest
from clinimm.report.facts import RunFacts
from clinimm.serve.app import open_office
from clinimm.serve.catalogue import Catalogue
from clinimm.serve.identity import Role
from clinimm.serve.run import choose_settings
from clinimm.serve.settings import ServeSettings
from tests.gate.conftest import PEOPLE, TODAY, write_governance
from tests.serve.hospital import ORIGIN, SUBJECT, Hospital, make_client, sign_in


@pytest.fixture
def governance(own_hospital: Hospital, tmp_path: Path) -> Governance:
    """The run as an author signed it, after an audit that blocks nothing."""
    found = write_governance(tmp_path / "governance", tmp_path / "keys")
    policy, root = digest_file(found.folder / "policy.yaml"), own_hospital.run
    audit = json.loads((root / "audit" / "audit.json").read_text()) | {"exit_status": 0}
    (root / "audit" / "audit.json").write_text(json.dumps(audit))
    times = ("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:01+00:00")
    RunRecord(
        "audit", {"policy file": policy}, digest_tree(root / "audit"), {}, "0", 0, *times, {}, {}
    ).write(root / "audit")
    digest = str(RunFacts(own_hospital.workspace).model_digest)
    write_manifest(own_hospital.workspace, digest, policy, tmp_path / "keys" / "author.key")
    write_artifact(root / "register", files_of(root / "train" / "model"), tmp_path / "keys" / "author.key")
    return found


def approve(one: Hospital, governance: Governance, keys: Path) -> None:
    """Both approvals, and the line that tells of the promotion."""
    evidence = gather(one.run, governance)
    (one.run / "gate").mkdir(exist_ok=True)
    for name, role in PEOPLE[1:3]:
        terms = Terms(name, role, TODAY + timedelta(days=30))
        identifier, text = sign_approval(evidence, terms, keys / f"{role}.key")
        (one.run / "gate" / f"{identifier}{APPROVAL_SUFFIX}").write_text(text)
    line = Entry(PROMOTED, "Rita Registrar", evidence.run, evidence.model_name, 1, digests_of(evidence))
    append(log_folder(one.runs), governance, line, keys / "registrar.key")
    check_run(one.run, "serve", governance)


def settings(governance: Governance, **more: object) -> ServeSettings:
    given = {"public_url": ORIGIN, "governance": governance.folder, **more}
    return ServeSettings.model_validate(given)


def test_only_an_approved_run_is_served(
    own_hospital: Hospital, governance: Governance, tmp_path: Path
) -> None:
    catalogue = Catalogue(own_hospital.runs, settings(governance))
    assert "refused (no-approval)" in catalogue.refused()["mock"]
    approve(own_hospital, governance, tmp_path / "keys")
    assert [run.name for run in catalogue.runs()] == ["mock"]
    office = open_office(own_hospital.runs, settings(governance), tmp_path / "records")
    with make_client(office) as client:
        shell, report = _pages(client, office)
    for page in (shell, report):
        assert "Research use only" not in page
        assert "approved by Otto Auditor (auditor) and Cleo Safety (clinical_safety_officer)" in page


def test_changes_elsewhere_end_the_service(
    own_hospital: Hospital, governance: Governance, tmp_path: Path
) -> None:
    """Neither the policy nor the log lies in the run; both are looked at before each page."""
    approve(own_hospital, governance, tmp_path / "keys")
    catalogue = Catalogue(own_hospital.runs, settings(governance))
    assert catalogue.runs()
    policy = governance.folder / "policy.yaml"
    before = policy.read_text()
    policy.write_text(before + "# tighter\n")
    assert "refused (other-policy)" in catalogue.refused()["mock"]
    policy.write_text(before)
    assert catalogue.runs()
    log = log_folder(own_hospital.runs) / "gate.jsonl"
    log.write_bytes(log.read_bytes()[:-30])
    assert "refused (broken-log)" in catalogue.refused()["mock"]


def test_earlier_champion_is_not_served_any_more(
    own_hospital: Hospital, governance: Governance, tmp_path: Path
) -> None:
    """While the server runs: the log tells that another version was promoted under the name."""
    approve(own_hospital, governance, tmp_path / "keys")
    catalogue = Catalogue(own_hospital.runs, settings(governance))
    assert catalogue.runs()
    evidence = gather(own_hospital.run, governance)
    digests = digests_of(evidence) | {"model": "0" * 64}
    line = Entry(PROMOTED, "Rita Registrar", "another", evidence.model_name, 2, digests)
    append(log_folder(own_hospital.runs), governance, line, tmp_path / "keys" / "registrar.key")
    assert "refused (superseded)" in catalogue.refused()["mock"]
    research = settings(governance, unapproved_runs="research", trusted_key=tmp_path / "keys" / "author.pub")
    (shown,) = Catalogue(own_hospital.runs, research).runs()
    assert shown.facts.release is None


def test_service_ends_with_the_approval(
    own_hospital: Hospital, governance: Governance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the server runs, and without any file that changes."""
    approve(own_hospital, governance, tmp_path / "keys")
    catalogue = Catalogue(own_hospital.runs, settings(governance))
    assert catalogue.runs()

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) + timedelta(days=31)

    monkeypatch.setattr("clinimm.serve.catalogue.datetime", Later)
    monkeypatch.setattr("clinimm.gate.check.datetime", Later)
    assert "refused (expired-approval)" in catalogue.refused()["mock"]


def test_research_is_shown_as_research(
    own_hospital: Hospital, governance: Governance, tmp_path: Path
) -> None:
    given = {"unapproved_runs": "research", "trusted_key": tmp_path / "keys" / "author.pub"}
    office = open_office(own_hospital.runs, settings(governance, **given), tmp_path / "records")
    with make_client(office) as client:
        for page in _pages(client, office):
            assert "Research use only" in page


def test_unapproved_runs_are_research_for_one_person_and_refused_for_others() -> None:
    assert ServeSettings().unapproved_runs == "refuse"
    assert choose_settings(None, True, "127.0.0.1", 8000).unapproved_runs == "research"


def _pages(client: TestClient, office: object) -> tuple[str, str]:
    sign_in(client, office, Role.CLINICIAN)  # type: ignore[arg-type]
    at = f"/runs/mock/patients/{SUBJECT}"
    found = client.get(at), client.get(f"{at}/report")
    assert [one.status_code for one in found] == [200, 200]
    return found[0].text, found[1].text
