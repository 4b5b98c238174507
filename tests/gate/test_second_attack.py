"""A second attack with fresh eyes: each way tried, and refused by name or found to gain nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form

from clinimm.cli.app import run
from clinimm.core.bundle import files_of
from clinimm.core.errors import ConfigError, IntegrityError
from clinimm.core.keys import PUBLIC_SUFFIX, load_public
from clinimm.gate import actions
from clinimm.gate.approval import Terms, sign_approval
from clinimm.gate.check import check_run
from clinimm.gate.rules import load_governance
from clinimm.register.artifact import write_artifact
from clinimm.register.registration import REGISTRATION_NAME
from tests.gate.conftest import TODAY, Hospital, another_run
from tests.gate.test_crashes import _withdraw, _withdrawable
from tests.gate.test_ways_round import (
    _code,
    _refused_by_mlflow,
    _serve,
    champion,
    client,
    plugin,
    served,
    stranger,
)

mlflow = pytest.importorskip("mlflow")
__all__ = ["champion", "client", "plugin", "served", "stranger"]


# Files beside the weights


def _sql(one: Hospital, *statements: str) -> None:
    with sqlite3.connect(one.root.parent / "mlflow.db") as database:
        for statement in statements:
            database.execute(statement)


@pytest.fixture
def wrapped(registry: Hospital) -> Hospital:
    """A model as MLflow lays it down: ``MLmodel``, code and requirements around the weights."""
    folder = registry.root.parent / "mlartifacts"
    shutil.copytree(registry.root / "train" / "model", folder / "artifacts" / "bundle" / "model")
    (folder / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.pyfunc.model}}\n")
    (folder / "pyfunc_model.py").write_text("pass\n")
    (folder / "requirements.txt").write_text("clinimm\n")
    _track(registry, folder)
    return registry


def _track(one: Hospital, folder: Path) -> None:
    write_artifact(one.root / "register", files_of(folder), one.key("author"))
    path = one.root / "register" / REGISTRATION_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"source": folder.as_uri()}))


@pytest.mark.parametrize("name", ["MLmodel", "pyfunc_model.py", "requirements.txt", "artifacts/more.py"])
def test_what_runs_at_load_is_bound_at_each_step(wrapped: Hospital, plugin: None, name: str) -> None:
    wrapped.approve()
    path = wrapped.root.parent / "mlartifacts" / name
    before = path.read_text() if path.exists() else None

    def swap() -> None:
        path.write_text("import os  # another loader\n")

    def restore() -> None:
        path.unlink() if before is None else path.write_text(before)

    swap()
    assert _code(wrapped.register) == "swapped-weights"
    restore()
    assert wrapped.register() == 1
    swap()
    assert _code(wrapped.promote) == "swapped-weights"
    restore()
    assert wrapped.promote() == 1
    actions.champion(wrapped.root, wrapped.governance)
    swap()
    assert _code(lambda: actions.champion(wrapped.root, wrapped.governance)) == "swapped-weights"


def test_registration_refuses_swapped_code_where_the_plug_in_is_absent(wrapped: Hospital) -> None:
    wrapped.approve()
    (wrapped.root.parent / "mlartifacts" / "MLmodel").write_text("flavors: {}\n")
    assert _code(wrapped.register) == "swapped-weights"


def test_author_may_list_no_pickle_among_the_files(wrapped: Hospital) -> None:
    folder = wrapped.root.parent / "mlartifacts"
    (folder / "python_model.pkl").write_bytes(b"cos\nsystem\n")
    _track(wrapped, folder)
    wrapped.approve()
    assert _code(wrapped.register) == "swapped-weights"


@pytest.mark.parametrize("how", ["gone", "edited", "stranger", "other-run"])
def test_list_of_tracked_files_is_the_author_s(hospital: Hospital, how: str) -> None:
    hospital.approve()
    check_run(hospital.root, "register", hospital.governance)
    path = hospital.root / "register" / "artifact.json"
    if how == "gone":
        path.unlink()
    elif how == "edited":
        path.write_text(path.read_text().replace("model.safetensors", "other.safetensors"))
    elif how == "stranger":
        write_artifact(path.parent, {}, hospital.key("auditor"))
    else:
        other = another_run(hospital, "second", b"other weights")
        path.write_text((other.root / "register" / "artifact.json").read_text())
    code = "not-registered" if how == "gone" else "changed-files"
    assert _code(lambda: check_run(hospital.root, "register", hospital.governance)) == code


def test_author_tracks_other_files_after_the_approval(hospital: Hospital) -> None:
    hospital.approve()
    write_artifact(hospital.root / "register", {"MLmodel": "0" * 64}, hospital.key("author"))
    assert _code(lambda: check_run(hospital.root, "register", hospital.governance)) == "stale-digest"


# Links, pipes and copies


def test_model_folder_that_is_a_link(served: Hospital) -> None:
    """It could be turned to another folder between the check and the load."""
    folder = served.root / "train" / "model"
    folder.rename(served.root.parent / "elsewhere")
    folder.symlink_to(served.root.parent / "elsewhere")
    assert _serve(served) == "swapped-weights"


def test_hard_link_that_is_written_through(served: Hospital) -> None:
    weights = served.root / "train" / "model" / "model.safetensors"
    os.link(weights, served.root.parent / "second-name")
    assert _serve(served) == ""  # the same bytes
    (served.root.parent / "second-name").write_bytes(b"others!")
    assert _serve(served) == "swapped-weights"


def test_pipe_in_the_model_folder(served: Hospital) -> None:
    os.mkfifo(served.root / "train" / "model" / "loader.py")
    assert _serve(served) == "swapped-weights"
    with pytest.raises(IntegrityError, match="neither a file nor a folder"):
        files_of(served.root / "train" / "model")


def test_approved_run_copied_under_another_name(served: Hospital) -> None:
    shutil.copytree(served.root, served.root.parent / "copy")
    copy = replace(served.workspace, config=served.workspace.config.model_copy(update={"name": "copy"}))
    assert _serve(replace(served, workspace=copy)) == "replayed-signature"


# MLflow's own verbs


@pytest.mark.parametrize("alias", ["CHAMPION", "champion ", "\uff43hampion", "Champion"])
def test_alias_in_other_letters(stranger: Hospital, client: "mlflow.MlflowClient", alias: str) -> None:
    with pytest.raises(mlflow.exceptions.MlflowException) as caught:
        client.set_registered_model_alias("hand", alias, "2")
    assert "no-approval" in str(caught.value) or caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert {name: int(at) for name, at in client.get_registered_model("hand").aliases.items()} == {
        "champion": 1
    }


@pytest.mark.parametrize("uri", ["runs:/0123/model", "models:/hand/2", "models:/free@champion", "file:///x"])
def test_sources_of_other_kinds(stranger: Hospital, client: "mlflow.MlflowClient", uri: str) -> None:
    tags = dict(client.get_model_version("hand", "1").tags)
    client.create_registered_model("free")
    client.create_model_version("free", (stranger.root / "train" / "model").as_uri())
    client.set_registered_model_alias("free", "champion", "1")
    with pytest.raises(mlflow.exceptions.MlflowException):
        client.create_model_version("hand", uri, tags=tags)
    assert {one.version for one in client.search_model_versions("name='hand'")} == {1, 2}


def test_version_copied_into_a_guarded_name(stranger: Hospital, client: "mlflow.MlflowClient") -> None:
    client.copy_model_version("models:/hand/2", "hand")  # registered as its original is, and no more
    _refused_by_mlflow(lambda: client.set_registered_model_alias("hand", "champion", "3"), "no-approval")
    client.create_registered_model("free")
    client.create_model_version("free", (stranger.root / "train" / "model").as_uri())
    with pytest.raises(mlflow.exceptions.MlflowException, match="refused"):
        client.copy_model_version("models:/free/1", "hand")


def test_another_model_renamed_to_a_guarded_name(champion: Hospital, client: "mlflow.MlflowClient") -> None:
    client.create_registered_model("free")
    with pytest.raises(mlflow.exceptions.MlflowException, match="already exists"):
        client.rename_registered_model("free", "hand")


def test_plain_store_without_the_plug_in(stranger: Hospital, client: "mlflow.MlflowClient") -> None:
    """As a server has it where CliniMM is not installed."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    plain = SqlAlchemyStore(f"sqlite:///{stranger.root.parent / 'mlflow.db'}")
    plain.set_registered_model_alias("hand", "champion", "2")
    plain.delete_registered_model_tag("hand", "clinimm.gated")
    first = stranger.root.parent / "hand"
    assert _code(lambda: actions.champion(first, stranger.governance)) == "alias-guarded"
    assert _serve(stranger) == "no-approval"


def test_version_that_was_pointed_elsewhere_in_the_database(
    champion: Hospital, client: "mlflow.MlflowClient"
) -> None:
    """The number, the alias and the tags stay: only where its files lie is another."""
    other = another_run(champion, "second", b"other weights")
    place = (other.root / "train" / "model").as_uri()
    _sql(champion, f"update model_versions set source = '{place}', storage_location = '{place}'")
    assert _code(lambda: actions.champion(champion.root, champion.governance)) == "swapped-weights"
    assert _code(champion.promote) == "swapped-weights"
    assert _serve(champion) == ""  # the run itself is what was approved


def test_version_that_was_deleted(champion: Hospital, client: "mlflow.MlflowClient") -> None:
    client.delete_model_version("hand", "1")
    assert _code(lambda: actions.champion(champion.root, champion.governance)) == "alias-guarded"
    assert _code(champion.promote) == "not-registered"
    assert (champion.register(), champion.promote()) == (2, 2)
    actions.champion(champion.root, champion.governance)


def test_name_that_reads_as_one_that_is_registered(champion: Hospital) -> None:
    other = another_run(champion, "second", b"other weights", "HAND")
    other.approve()
    assert _code(other.register) == "name-guarded"


# Keys and rules


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_private_key_that_others_can_use(registry: Hospital, mode: int) -> None:
    for role in ("registrar", "auditor"):
        registry.key(role).chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        registry.register()
    with pytest.raises(ConfigError, match="chmod 600"):
        actions.approve(registry.evidence(), "auditor", registry.key("auditor"), 9, registry.governance)


def test_one_key_in_another_encoding_is_one_key(hospital: Hospital) -> None:
    """The same point of the curve, compressed."""
    public = load_public((hospital.keys / f"author{PUBLIC_SUFFIX}").read_bytes(), "author")
    point = public.public_bytes(form.Encoding.X962, form.PublicFormat.CompressedPoint)
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    again = load_public(_pem(head + point), "again")
    assert again.public_numbers() == public.public_numbers()
    pem = _pem(head + point).decode()
    hospital.write_rules(lambda rules: rules["people"][1]["keys"][0].update(public=pem))
    with pytest.raises(ConfigError, match="stand here once"):
        hospital.again()


def test_approval_for_a_hundred_years(hospital: Hospital) -> None:
    hospital.sign("auditor", until=TODAY + timedelta(days=36500))
    assert _code(lambda: check_run(hospital.root, "register", hospital.governance)) == "too-long"
    hospital.write_rules(lambda rules: rules.update(longest_days=36500))
    with pytest.raises(ConfigError, match="longest_days"):
        load_governance(hospital.governance.folder)


def test_approval_in_the_form_before_the_files_were_bound(hospital: Hospital) -> None:
    import base64

    terms = Terms("Otto Auditor", "auditor", TODAY + timedelta(days=9))
    _, text = sign_approval(hospital.evidence(), terms, hospital.key("auditor"))
    value = json.loads(text)
    payload = base64.b64decode(value["dsseEnvelope"]["payload"]).replace(b"approval/2", b"approval/1")
    value["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    call = lambda: actions.add(hospital.root, {"x": json.dumps(value)}, hospital.governance)  # noqa: E731
    assert _code(call) == "bad-signature"


# What keeps a model from being stopped


@pytest.mark.parametrize("damage", ["registration", "filed", "manifest"])
def test_damaged_run_can_still_be_stopped(
    champion: Hospital, client: "mlflow.MlflowClient", damage: str
) -> None:
    """Otherwise whoever damages a file has the approval back by mending it later."""
    places = {
        "registration": champion.root / "register" / REGISTRATION_NAME,
        "filed": champion.root / "gate" / "filed.json",
        "manifest": champion.root / "register" / "manifest.json",
    }
    before = places[damage].read_text()
    places[damage].write_text("{}") if damage == "filed" else places[damage].unlink()
    _withdraw(champion, _withdrawable(champion))
    places[damage].write_text(before)
    assert _serve(champion) == "revoked-approval"
    assert "champion" not in client.get_registered_model("hand").aliases


def test_unknown_identifier_is_answered_with_those_that_there_are(
    champion: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    key = ["--reason", "x", "--key", str(champion.key("registrar"))]
    assert run(["gate", "revoke", str(champion.root), "feed", *key]) == 2
    assert _withdrawable(champion) in capsys.readouterr().err


def test_guarded_tags_hold_the_list_of_files(champion: Hospital, client: "mlflow.MlflowClient") -> None:
    told = json.loads(client.get_model_version("hand", "1").tags["clinimm.evidence"])
    text = json.dumps(told | {"artifact": {"MLmodel": "0" * 64}})
    _refused_by_mlflow(
        lambda: client.set_model_version_tag("hand", "1", "clinimm.evidence", text), "tag-guarded"
    )
    _sql(champion, f"update model_version_tags set value = '{text}' where key = 'clinimm.evidence'")
    with pytest.raises(mlflow.exceptions.MlflowException, match="refused"):
        client.set_registered_model_alias("hand", "champion", "1")


def _pem(der: bytes) -> bytes:
    import base64

    return b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(der) + b"-----END PUBLIC KEY-----\n"
