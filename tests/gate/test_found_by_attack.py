"""Ways round the gate that an attack on it found, each tried and refused by name."""

from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clinimm.audit.waiver import Waiver
from clinimm.cli.app import app
from clinimm.cli.common import find_run
from clinimm.core.errors import ConfigError
from clinimm.core.keys import load_public
from clinimm.gate import actions
from clinimm.gate.check import check_run
from clinimm.gate.log import FORM, PROMOTED, Entry, append, digests_of, log_folder
from tests.gate.conftest import TODAY, Hospital
from tests.gate.test_ways_round import _code, _refused_by_mlflow, _serve, champion, client, plugin, served

mlflow = pytest.importorskip("mlflow")
__all__ = ["champion", "client", "plugin", "served"]


def _approvals(one: Hospital) -> list[Path]:
    return sorted((one.root / "gate").glob("*.sigstore.json"))


@pytest.mark.parametrize("gone", [False, True])
def test_approval_that_was_renamed_or_hidden_is_withdrawn_all_the_same(
    champion: Hospital, client: "mlflow.MlflowClient", gone: bool
) -> None:
    path = _approvals(champion)[0]
    identifier, text = path.name.split(".")[0], path.read_text()
    path.rename(path.with_name("feed.sigstore.json"))
    if gone:
        path.with_name("feed.sigstore.json").unlink()
    key = champion.key("registrar")
    call = lambda: actions.revoke(champion.root, "feed", "drift", champion.governance, key)  # noqa: E731
    assert _code(call) == "no-approval"  # the name of the file says nothing
    actions.revoke(champion.root, identifier, "drift", champion.governance, key)
    path.write_text(text)
    assert _serve(champion) == "revoked-approval"
    assert _code(champion.promote) == "revoked-approval"


def test_unreadable_file_among_the_approvals_stops_nobody(
    registry: Hospital, plugin: None, client: "mlflow.MlflowClient"
) -> None:
    registry.approve()
    (registry.root / "gate" / "a.sigstore.json").write_text("{}")
    assert registry.register() == 1


def test_promotion_with_a_registrars_key_that_was_withdrawn(hospital: Hospital) -> None:
    hospital.approve()

    def end(rules: dict) -> None:  # type: ignore[type-arg]
        rules["people"][3]["keys"][0]["valid_until"] = TODAY - timedelta(days=1)

    line = Entry(PROMOTED, "Rita Registrar", "hand", "hand", 1, digests_of(hospital.evidence()))
    append(log_folder(hospital.root.parent), hospital.governance, line, hospital.key("registrar"))
    assert _serve(hospital) == ""
    hospital.write_rules(end)
    assert _serve(hospital) == "broken-log"


def test_champion_from_before_the_gate_does_not_stay(registry: Hospital, plugin: None) -> None:
    own = mlflow.MlflowClient(f"sqlite:///{(registry.workspace.config.runs_dir / 'mlflow.db').absolute()}")
    own.create_registered_model("hand")
    own.create_model_version("hand", registry.root.as_uri())
    own.set_registered_model_alias("hand", "champion", "1")
    registry.approve()
    assert _code(registry.register) == "alias-guarded"
    own.delete_registered_model_alias("hand", "champion")
    assert registry.register() == 2


@pytest.mark.parametrize(
    "what", ["python_model.pkl", "weights.pt", "MLmodel", "code/loader.py", "link", "pipe"]
)
def test_version_with_something_beside_the_approved_weights(
    champion: Hospital, client: "mlflow.MlflowClient", what: str
) -> None:
    tags = dict(client.get_model_version("hand", "1").tags)
    folder = champion.root.parent / "other"
    shutil.copytree(champion.root / "train" / "model", folder)
    assert int(client.create_model_version("hand", folder.as_uri(), tags=tags).version) == 2
    if what == "link":
        (folder / what).symlink_to(champion.keys)
    elif what == "pipe":
        os.mkfifo(folder / what)
    else:
        (folder / what).parent.mkdir(exist_ok=True)
        (folder / what).write_bytes(b"others!")
    code = "swapped-weights"
    _refused_by_mlflow(lambda: client.create_model_version("hand", folder.as_uri(), tags=tags), code)
    _refused_by_mlflow(lambda: client.set_registered_model_alias("hand", "champion", "2"), code)


def test_guard_in_other_letters(champion: Hospital, client: "mlflow.MlflowClient") -> None:
    """MySQL and SQL Server take ``CLINIMM.gated`` for the same tag."""
    _refused_by_mlflow(
        lambda: client.set_registered_model_tag("hand", "CLINIMM.Gated", "false"), "tag-guarded"
    )
    _refused_by_mlflow(lambda: client.delete_registered_model_tag("hand", "CLINIMM.gated"), "tag-guarded")
    _refused_by_mlflow(
        lambda: client.set_model_version_tag("hand", "1", "Clinimm.evidence", "{}"), "tag-guarded"
    )


def test_files_of_another_form_are_refused_and_break_nothing(served: Hospital) -> None:
    filed = served.root / "gate" / "filed.json"
    filed.write_text(json.dumps(json.loads(filed.read_text()) | {"head_digest": 5}))
    assert _serve(served) == "changed-files"
    manifest = served.root / "register" / "manifest.json"
    signed = json.loads(manifest.read_text())
    signed["signature"]["public_key"] = ["x"]
    manifest.write_text(json.dumps(signed))
    assert _serve(served) == "changed-files"


def test_one_person_in_other_bytes_is_one_person(hospital: Hospital) -> None:
    def twice(rules: dict) -> None:  # type: ignore[type-arg]
        rules["people"][2]["name"] = "\uff2f\uff34\uff34\uff2f  Auditor"

    hospital.write_rules(twice)
    with pytest.raises(ConfigError, match="stand here once"):
        hospital.again()
    with pytest.raises(ValueError, match="two different owners"):
        Waiver(
            rule="missed", reason="known to all", owners=("Anna M\u00fcller", "Anna  Mu\u0308ller"),
            signed=TODAY, until=TODAY,
        )  # fmt: skip


def test_status_names_the_approvals(hospital: Hospital) -> None:
    path = hospital.sign("auditor")
    said = CliRunner().invoke(app, ["gate", "status", str(hospital.root)])
    assert path.name.split(".")[0] in said.output and "Otto Auditor (auditor)" in said.output


def test_run_that_is_given_as_the_working_folder(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hospital.root)
    assert find_run(Path()).name == "hand"
    hospital.sign("auditor")
    assert check_run(find_run(Path()), "register", hospital.governance).evidence.run == "hand"
    assert FORM.log_name not in {path.name for path in hospital.root.rglob("*")}


def test_a_key_on_a_weak_curve_is_no_key() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = ec.generate_private_key(ec.SECP192R1()).public_key()
    text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ConfigError, match="curve secp192r1"):
        load_public(text, "weak.pub")


def test_another_registry_in_the_environment_is_not_asked(
    registry: Hospital, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    registry.approve()
    assert registry.register() == 1
    assert not (tmp_path / "elsewhere.db").exists()
