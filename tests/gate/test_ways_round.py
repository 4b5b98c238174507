"""Twelve ways round the gate, each tried and refused by name; the registry is a real MLflow database.

Alias, stage and tag are tried through MLflow's own client with the plug-in that MLflow loads by itself, the
edit with SQL. What needs no registry is tried where the decision is made, and at the server's door
(``_serve``). Most tests first show that the same thing without the attack is allowed.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from clinimm.core.sign import sign
from clinimm.gate import actions
from clinimm.gate.check import Filed, check_run
from clinimm.gate.log import FORM, PROMOTED, Entry, append, digests_of, log_folder, read_log
from clinimm.gate.refused import GateRefused
from clinimm.gate.rules import ACTS
from clinimm.serve.catalogue import Catalogue
from clinimm.serve.settings import ServeSettings
from tests.gate.conftest import NOW, TODAY, Hospital, another_run, sign_run

mlflow = pytest.importorskip("mlflow")


def _code(call: Callable[[], object]) -> str:
    with pytest.raises(GateRefused) as caught:
        call()
    assert str(caught.value).startswith(f"refused ({caught.value.code}): ")
    return caught.value.code


def _serve(one: Hospital) -> str:
    """Why the server does not load the run; empty where it does not object at the gate."""
    settings = ServeSettings(blocked_runs="show", governance=one.governance.folder)
    try:
        Catalogue(one.root.parent, settings)._release(one.root)
    except GateRefused as refused:
        return refused.code
    return ""


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow as where CliniMM is installed: it finds our store by the entry points of pyproject.toml."""
    import tomllib

    from mlflow.tracking import registry
    from mlflow.tracking._model_registry import utils

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    group = "mlflow.model_registry_store"
    points = [EntryPoint(name, value, group) for name, value in project["entry-points"][group].items()]
    monkeypatch.setattr(registry, "get_entry_points", lambda asked: points if asked == group else [])
    monkeypatch.setattr(utils, "_model_registry_store_registry", None)


@pytest.fixture
def champion(registry: Hospital, plugin: None) -> Hospital:
    """A model that was approved, registered and promoted through the gate and the guarded store."""
    registry.approve()
    assert registry.register() == 1 and registry.promote() == 1
    assert _serve(registry) == ""
    return registry


@pytest.fixture
def served(hospital: Hospital) -> Hospital:
    """The same without a registry: what the server asks never lies there."""
    hospital.approve()
    evidence, folder = hospital.evidence(), log_folder(hospital.root.parent)
    line = Entry(PROMOTED, "Rita Registrar", "hand", "hand", 1, digests_of(evidence))
    head = append(folder, hospital.governance, line, hospital.key("registrar"))
    Filed(1, head.number, head.digest, promoted=True).write(hospital.root)
    assert _serve(hospital) == ""
    return hospital


@pytest.fixture
def stranger(champion: Hospital) -> Hospital:
    """A second version under the same name that only an auditor approved: registered, not for promotion."""
    other = another_run(champion, "second", b"other weights")
    config = other.workspace.config
    named = config.register_.model_copy(update={"model_name": "hand"})
    from clinimm.settings import write_settings
    from clinimm.workspace import Workspace

    workspace = Workspace(config.model_copy(update={"register_": named}))
    write_settings(workspace.config, workspace.root)
    sign_run(workspace, other.governance, other.key("author"))
    path = workspace.root / "register" / "registration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_name": "hand"}))
    other = replace(other, workspace=workspace)
    other.sign("auditor")
    assert other.register() == 2
    return other


@pytest.fixture
def client(champion: Hospital) -> Iterator["mlflow.MlflowClient"]:
    store = f"sqlite:///{(champion.root.parent / 'mlflow.db').absolute()}"
    yield mlflow.MlflowClient(store, store)


def _refused_by_mlflow(call: Callable[[], object], code: str) -> None:
    with pytest.raises(mlflow.exceptions.MlflowException, match=rf"refused \({code}\)") as caught:
        call()
    assert caught.value.error_code == "PERMISSION_DENIED"


# 1. alias


@pytest.mark.parametrize("alias", ["champion", "Champion"])
def test_alias_is_not_moved_by_hand(stranger: Hospital, client: "mlflow.MlflowClient", alias: str) -> None:
    client.set_registered_model_alias("hand", "champion", "1")  # it was approved: nothing to refuse
    _refused_by_mlflow(lambda: client.set_registered_model_alias("hand", alias, "2"), "no-approval")
    assert int(client.get_model_version_by_alias("hand", "champion").version) == 1
    assert _serve(stranger) == "no-approval"


def test_other_aliases_and_other_models_are_left_alone(
    stranger: Hospital, client: "mlflow.MlflowClient"
) -> None:
    client.set_registered_model_alias("hand", "to-look-at", "2")
    client.create_registered_model("of another team")
    client.create_model_version("of another team", "/nowhere")
    client.set_registered_model_alias("of another team", "champion", "1")
    client.transition_model_version_stage("of another team", "1", "Production")
    client.rename_registered_model("of another team", "moved")


def test_version_is_not_made_by_hand(champion: Hospital, client: "mlflow.MlflowClient") -> None:
    source = (champion.root / "train" / "model").as_uri()
    _refused_by_mlflow(lambda: client.create_model_version("hand", source), "no-approval")


def test_store_that_does_not_know_whom_to_trust_refuses(
    stranger: Hospital, client: "mlflow.MlflowClient", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINIMM_GOVERNANCE", str(tmp_path / "nowhere"))
    with pytest.raises(mlflow.exceptions.MlflowException, match="the gate cannot decide"):
        client.set_registered_model_alias("hand", "champion", "1")


# 2. stage


@pytest.mark.parametrize("stage", ["Production", "Staging"])
def test_stage_is_shut(stranger: Hospital, client: "mlflow.MlflowClient", stage: str) -> None:
    _refused_by_mlflow(lambda: client.transition_model_version_stage("hand", "2", stage), "stage-guarded")
    client.transition_model_version_stage("hand", "2", "Archived")


# 3. tag


def test_tags_of_an_approved_version_do_not_help_another(
    stranger: Hospital, client: "mlflow.MlflowClient"
) -> None:
    approved, mine = client.get_model_version("hand", "1").tags, client.get_model_version("hand", "2").tags
    for key, value in approved.items():
        if key.startswith("clinimm.approval."):
            client.set_model_version_tag("hand", "2", key, value)  # further approvals may be brought
    evidence = "clinimm.evidence"
    _refused_by_mlflow(
        lambda: client.set_model_version_tag("hand", "2", evidence, approved[evidence]), "tag-guarded"
    )
    taken = next(key for key in mine if key.startswith("clinimm.approval."))
    _refused_by_mlflow(lambda: client.set_model_version_tag("hand", "2", taken, "{}"), "tag-guarded")
    _refused_by_mlflow(lambda: client.delete_model_version_tag("hand", "2", evidence), "tag-guarded")
    _refused_by_mlflow(
        lambda: client.set_registered_model_alias("hand", "champion", "2"), "replayed-signature"
    )


def test_version_with_copied_tags_needs_the_approved_bytes(
    stranger: Hospital, client: "mlflow.MlflowClient"
) -> None:
    tags = dict(client.get_model_version("hand", "1").tags)
    own, other = (
        (root / "train" / "model").as_uri() for root in (stranger.root.parent / "hand", stranger.root)
    )
    assert int(client.create_model_version("hand", own, tags=tags).version) == 3
    _refused_by_mlflow(lambda: client.create_model_version("hand", other, tags=tags), "swapped-weights")


def test_guard_cannot_be_taken_off(champion: Hospital, client: "mlflow.MlflowClient") -> None:
    key = "clinimm.gated"
    _refused_by_mlflow(lambda: client.delete_registered_model_tag("hand", key), "tag-guarded")
    _refused_by_mlflow(lambda: client.set_registered_model_tag("hand", key, "false"), "tag-guarded")
    _refused_by_mlflow(lambda: client.rename_registered_model("hand", "free"), "name-guarded")
    _refused_by_mlflow(lambda: client.delete_registered_model("hand"), "name-guarded")


# 4. direct database edit


def test_database_edit_moves_nothing_that_is_served(stranger: Hospital) -> None:
    first = replace(stranger, workspace=replace_name(stranger, "hand"))
    assert actions.champion(first.root, first.governance).evidence.run == "hand"
    with sqlite3.connect(stranger.root.parent / "mlflow.db") as database:
        database.execute("update registered_model_aliases set version = 2 where alias = 'champion'")
        database.execute("update model_versions set current_stage = 'Production' where version = 2")
    assert _code(lambda: actions.champion(first.root, first.governance)) == "alias-guarded"
    assert _code(lambda: actions.champion(stranger.root, stranger.governance)) == "no-approval"
    assert _serve(stranger) == "no-approval"


def replace_name(one: Hospital, name: str):  # type: ignore[no-untyped-def]
    return replace(one.workspace, config=one.workspace.config.model_copy(update={"name": name}))


def test_promotion_that_only_the_run_tells_of_is_not_served(served: Hospital) -> None:
    """``gate/filed.json`` can be written by anybody who can write the run."""
    other = another_run(served, "second", b"other weights")
    other.approve()
    (other.root / "gate" / "filed.json").write_text((served.root / "gate" / "filed.json").read_text())
    assert _serve(other) == "not-promoted"


# 5. expired approval


def test_expired_approval(hospital: Hospital) -> None:
    hospital.approve()
    last, late = NOW + timedelta(days=90), NOW + timedelta(days=91)
    for act in ACTS[:2]:
        check_run(hospital.root, act, hospital.governance, last)
        call = partial(check_run, hospital.root, act, hospital.governance, late)
        assert _code(call) == "expired-approval"


def test_approval_for_longer_than_the_rules_allow(hospital: Hospital) -> None:
    hospital.sign("auditor", until=TODAY + timedelta(days=365))
    check_run(hospital.root, "register", hospital.governance)
    next((hospital.root / "gate").iterdir()).unlink()
    hospital.sign("auditor", until=TODAY + timedelta(days=366))
    assert _code(lambda: check_run(hospital.root, "register", hospital.governance)) == "too-long"


def test_approval_of_tomorrow_or_with_a_key_that_ended(hospital: Hospital) -> None:
    hospital.sign("auditor", made=NOW + timedelta(days=1))
    assert _code(lambda: check_run(hospital.root, "register", hospital.governance)) == "not-yet-valid"
    next((hospital.root / "gate").iterdir()).unlink()
    hospital.sign("auditor")
    check_run(hospital.root, "register", hospital.governance)

    def end(rules: dict) -> None:  # type: ignore[type-arg]
        rules["people"][1]["keys"][0]["valid_until"] = TODAY - timedelta(days=1)

    hospital.write_rules(end)
    assert _code(lambda: check_run(hospital.root, "register", hospital.again().governance)) == "expired-key"


# 6. other policy


def test_audit_under_another_policy(hospital: Hospital) -> None:
    hospital.approve()
    check_run(hospital.root, "promote", hospital.governance)
    (hospital.governance.folder / "policy.yaml").write_text("schema: clinimm.policy/1  # tighter\n")
    assert _code(lambda: check_run(hospital.root, "promote", hospital.governance)) == "other-policy"


def test_approval_of_an_audit_under_another_policy(hospital: Hospital) -> None:
    hospital.sign("auditor", replace(hospital.evidence(), policy="0" * 64))
    assert _code(lambda: check_run(hospital.root, "register", hospital.governance)) == "other-policy"


def test_approval_for_another_intended_use(hospital: Hospital) -> None:
    hospital.approve()
    (hospital.governance.folder / "intended-use.md").write_text("For everything.\n")
    assert _code(lambda: check_run(hospital.root, "promote", hospital.governance)) == "other-intended-use"


# 7. stale digest


@pytest.mark.parametrize("what", ["model", "audit", "manifest", "author_key"])
def test_approval_of_an_earlier_state(hospital: Hospital, what: str) -> None:
    hospital.sign("auditor", replace(hospital.evidence(), **{what: "0" * 64}))
    assert _code(lambda: check_run(hospital.root, "register", hospital.governance)) == "stale-digest"


def test_run_that_was_signed_again(hospital: Hospital) -> None:
    hospital.approve()
    check_run(hospital.root, "promote", hospital.governance)
    sign_run(hospital.workspace, hospital.governance, hospital.key("author"), sentence="audited again")
    assert _code(lambda: check_run(hospital.root, "promote", hospital.governance)) == "stale-digest"


# 8. self-approval


def test_author_does_not_approve(hospital: Hospital) -> None:
    """Neither with the key that signed the run nor with another one of the same person."""

    def both(rules: dict) -> None:  # type: ignore[type-arg]
        author, auditor = rules["people"][0], rules["people"][1]
        author["roles"].append("auditor")
        author["keys"] += auditor.pop("keys")
        rules["people"].remove(auditor)

    hospital.write_rules(both)
    one = hospital.again()
    for key in ("author", "auditor"):
        path = one.sign("auditor", key=one.key(key), person="Ada Author")
        assert _code(lambda: check_run(one.root, "register", one.governance)) == "self-approval"
        path.unlink()


def test_one_person_does_not_count_twice(hospital: Hospital) -> None:
    def second_role(rules: dict) -> None:  # type: ignore[type-arg]
        rules["people"][1]["roles"].append("clinical_safety_officer")

    hospital.write_rules(second_role)
    one = hospital.again()
    one.sign("auditor")
    one.sign("clinical_safety_officer", key=one.key("auditor"), person="Otto Auditor")
    assert _code(lambda: check_run(one.root, "promote", one.governance)) == "one-person-two-roles"
    one.sign("clinical_safety_officer")
    check_run(one.root, "promote", one.governance)


def test_author_whom_nobody_lists(hospital: Hospital, tmp_path: Path) -> None:
    """Otherwise an auditor could sign a run with a key made for the day, and approve it."""
    hospital.approve()
    sign(b"", None)
    sign_run(
        hospital.workspace, hospital.governance, Path(os.environ["XDG_CONFIG_HOME"]) / "clinimm/signing.key"
    )
    with pytest.raises(GateRefused, match=r"signing_key_file=FILE") as refused:
        check_run(hospital.root, "register", hospital.governance)
    assert refused.value.code == "unknown-author"


def test_author_whose_key_had_ended(hospital: Hospital) -> None:
    def end(rules: dict) -> None:  # type: ignore[type-arg]
        rules["people"][0]["keys"][0]["valid_until"] = TODAY - timedelta(days=1)

    hospital.write_rules(end)
    assert _code(lambda: hospital.again().evidence()) == "expired-key"


@pytest.mark.parametrize(
    ("role", "key", "person", "code"),
    [
        ("auditor", "clinical_safety_officer", "Cleo Safety", "wrong-role"),
        ("auditor", "clinical_safety_officer", "Otto Auditor", "unknown-key"),
        ("author", "author", "Ada Author", "no-approval"),
    ],
)
def test_signer_is_who_the_rules_say(hospital: Hospital, role: str, key: str, person: str, code: str) -> None:
    hospital.sign(role, key=hospital.key(key), person=person)
    assert _code(lambda: check_run(hospital.root, "register", hospital.governance)) == code


# 9. ended waiver


def _waived(until: str) -> dict:  # type: ignore[type-arg]
    place = {"rule": "missed", "attribute": "sex", "level": "F"}
    waiver = {**place, "level": None, "reason": "known", "owners": ["a", "b"], "until": until}
    return {"findings": [{**place, "verdict": "fail", "waived": "until ..."}], "waivers": [waiver]}


def test_finding_whose_waiver_ended(hospital: Hospital) -> None:
    sign_run(hospital.workspace, hospital.governance, hospital.key("author"), **_waived(TODAY.isoformat()))
    hospital.approve()
    check_run(hospital.root, "promote", hospital.governance, NOW)
    tomorrow = NOW + timedelta(days=1)
    assert _code(lambda: check_run(hospital.root, "promote", hospital.governance, tomorrow)) == "ended-waiver"


def test_finding_whose_waiver_is_not_there(hospital: Hospital) -> None:
    told = _waived(TODAY.isoformat()) | {"waivers": []}
    sign_run(hospital.workspace, hospital.governance, hospital.key("author"), **told)
    hospital.approve()
    assert _code(lambda: check_run(hospital.root, "promote", hospital.governance)) == "ended-waiver"


def test_audit_that_blocks(hospital: Hospital) -> None:
    hospital.approve()
    sign_run(hospital.workspace, hospital.governance, hospital.key("author"), exit_status=1)
    assert _code(lambda: check_run(hospital.root, "register", hospital.governance)) == "audit-blocks"


# 10. truncated log


def _withdraw(one: Hospital) -> None:
    identifier = sorted((one.root / "gate").glob("*.sigstore.json"))[0].name.split(".")[0]
    actions.revoke(one.root, identifier, "drift", one.governance, one.key("registrar"))


def test_withdrawal_that_was_cut_off_the_log(champion: Hospital, client: "mlflow.MlflowClient") -> None:
    folder = log_folder(champion.root.parent)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    _withdraw(champion)
    assert _serve(champion) == "revoked-approval"
    assert "champion" not in client.get_registered_model("hand").aliases
    # Its last line alone, and the whole log with the head of then.
    (folder / FORM.log_name).write_bytes(before[FORM.log_name])
    assert _serve(champion) == "broken-log"
    (folder / FORM.head_name).write_bytes(before[FORM.head_name])
    assert _serve(champion) == "broken-log"
    for path in folder.iterdir():
        path.unlink()
    assert _serve(champion) == "broken-log"


def test_log_set_back_with_its_end_and_the_run_is_found_by_a_head_that_was_written_down(
    champion: Hospital,
) -> None:
    folder = log_folder(champion.root.parent)
    places = [*folder.iterdir(), champion.root / "gate" / "filed.json"]
    before = {path: path.read_bytes() for path in places}
    _withdraw(champion)
    kept = read_log(folder, champion.governance).head
    for path, content in before.items():
        path.write_bytes(content)
    assert _code(lambda: read_log(folder, champion.governance, kept)) == "broken-log"


def test_line_that_was_changed(served: Hospital) -> None:
    path = log_folder(served.root.parent) / FORM.log_name
    path.write_bytes(path.read_bytes().replace(b"Rita Registrar", b"Nina Registrar"))
    assert _serve(served) == "broken-log"


def test_log_that_a_stranger_signed(served: Hospital) -> None:
    def leaves(rules: dict) -> None:  # type: ignore[type-arg]
        rules["people"].pop(3)

    served.write_rules(leaves)
    assert _serve(served) == "broken-log"


def test_log_is_written_by_registrars_only(hospital: Hospital) -> None:
    hospital.approve()
    call = lambda: actions.register(hospital.root, hospital.governance, hospital.key("author"))  # noqa: E731
    assert _code(call) == "unknown-key"


# 11. replayed signature


def test_approval_of_another_run(hospital: Hospital) -> None:
    hospital.approve()
    other = another_run(hospital, "second", b"other weights")
    (other.root / "gate").mkdir()
    for path in (hospital.root / "gate").iterdir():
        (other.root / "gate" / path.name).write_text(path.read_text())
    assert _code(lambda: check_run(other.root, "register", other.governance)) == "replayed-signature"


def test_signature_over_other_claims(hospital: Hospital) -> None:
    import base64

    path = hospital.sign("auditor", until=TODAY - timedelta(days=1))
    bundle = json.loads(path.read_text())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"]).decode()
    longer = payload.replace((TODAY - timedelta(days=1)).isoformat(), (TODAY + timedelta(days=9)).isoformat())
    assert longer != payload
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(longer.encode()).decode()
    path.write_text(json.dumps(bundle))
    assert _code(lambda: check_run(hospital.root, "register", hospital.governance)) == "bad-signature"


def test_withdrawn_approval_brought_back(champion: Hospital) -> None:
    paths = {path.name: path.read_text() for path in (champion.root / "gate").glob("*.sigstore.json")}
    _withdraw(champion)
    assert _code(lambda: actions.add(champion.root, paths, champion.governance)) == "revoked-approval"
    champion.approve()  # new ones: it may be promoted again, and is not served before
    assert _serve(champion) == "not-promoted"
    champion.promote()
    assert _serve(champion) == ""


# 12. swapped weights


def test_swapped_weights(served: Hospital) -> None:
    folder = served.root / "train" / "model"
    (folder / "model.safetensors").write_bytes(b"others!")
    assert _serve(served) == "swapped-weights"
    (folder / "model.safetensors").write_bytes(b"weights")
    assert _serve(served) == ""
    (folder / "more.safetensors").write_bytes(b"others!")
    assert _serve(served) == "swapped-weights"


def test_swapped_predictions(served: Hospital) -> None:
    path = served.root / "predict" / "predictions.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    assert _serve(served) == "changed-files"


def test_weights_swapped_in_the_registry(stranger: Hospital, client: "mlflow.MlflowClient") -> None:
    (stranger.root.parent / "hand/train/model/model.safetensors").write_bytes(b"others!")
    _refused_by_mlflow(lambda: client.set_registered_model_alias("hand", "champion", "1"), "swapped-weights")
