"""From the register stage to a champion, through the guarded store, with the bundle that MLflow loads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from clinimm.core.errors import AuditGateError
from clinimm.core.record import RunRecord, digest_file
from clinimm.gate import actions
from clinimm.gate.check import check_run, release_of
from clinimm.progress import QUIET
from clinimm.register import stage
from clinimm.serve.run import free_port
from clinimm.settings import write_settings
from clinimm.workspace import Workspace
from tests.gate.conftest import Hospital
from tests.gate.test_ways_round import plugin

__all__ = ["plugin"]

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def staged(registry: Hospital) -> Hospital:
    """A run that its own register stage signed with the author's key, and tracked."""
    config = registry.workspace.config
    named = config.register_.model_copy(update={"signing_key_file": registry.key("author")})
    workspace = Workspace(config.model_copy(update={"register_": named}))
    write_settings(workspace.config, workspace.root)
    record = RunRecord.read(workspace.root / "audit")
    assert record is not None
    policy = digest_file(registry.governance.folder / "policy.yaml")
    replace(record, inputs={**record.inputs, "policy file": policy}).write(workspace.root / "audit")
    stage.run(workspace, QUIET)
    return replace(registry, workspace=workspace)


def test_candidate_becomes_a_champion_that_mlflow_loads(staged: Hospital, plugin: None) -> None:
    assert release_of(staged.root) is None
    staged.approve()
    assert (staged.register(), staged.promote()) == (1, 1)
    assert actions.champion(staged.root, staged.governance).evidence.run == "hand"
    assert "approved by Otto Auditor (auditor)" in check_run(staged.root, "serve", staged.governance).sentence
    store = f"sqlite:///{staged.root.parent / 'mlflow.db'}"
    mlflow.set_tracking_uri(store)
    try:
        model = mlflow.pyfunc.load_model("models:/hand@champion")
    finally:
        mlflow.set_tracking_uri(None)
    assert model.metadata.signature.inputs.input_names() == ["export"]
    folder = mlflow.MlflowClient(store, store).get_model_version_download_uri("hand", "1")
    (weights,) = Path(url2pathname(urlsplit(folder).path)).rglob("model.safetensors")
    assert weights.read_bytes() == b"weights"
    weights.write_bytes(b"others!")
    with pytest.raises(AuditGateError, match=r"^refused \(swapped-weights\)"):
        staged.promote()


def test_registering_twice_makes_one_version(staged: Hospital) -> None:
    staged.approve()
    assert (staged.register(), staged.register()) == (1, 1)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("uvicorn") is None, reason="needs uvicorn")
def test_mlflow_s_own_server_refuses(registry: Hospital, tmp_path: Path) -> None:
    """``mlflow server`` in a process of its own, with CliniMM's entry points as an installation has them."""
    import tomllib

    registry.sign("auditor")
    registry.register()
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    group = "mlflow.model_registry_store"
    site = tmp_path / "site"
    (site / "gateplugin-0.dist-info").mkdir(parents=True)
    (site / "gateplugin-0.dist-info" / "METADATA").write_text("Name: gateplugin\nVersion: 0\n")
    rows = [f"{name} = {value}" for name, value in project["entry-points"][group].items()]
    (site / "gateplugin-0.dist-info" / "entry_points.txt").write_text("\n".join([f"[{group}]", *rows]))
    port, root = free_port("127.0.0.1"), Path(__file__).parents[2]
    store = f"sqlite:///{registry.root.parent / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", store, "--disable-security-middleware"]
    paths = {"PYTHONPATH": f"{root}{os.pathsep}{site}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(command, env={**os.environ, **paths}, cwd=tmp_path, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(f"{address}/health", server)
        client = mlflow.MlflowClient(address, address)
        client.set_registered_model_alias("hand", "to-look-at", "1")
        with pytest.raises(mlflow.exceptions.MlflowException, match=r"refused \(no-approval\)"):
            client.set_registered_model_alias("hand", "champion", "1")
        with pytest.raises(mlflow.exceptions.MlflowException, match=r"refused \(stage-guarded\)"):
            client.transition_model_version_stage("hand", "1", "Production")
    finally:
        os.killpg(server.pid, 15)
        server.wait(60)


def _wait(address: str, server: "subprocess.Popen[bytes]") -> None:
    """Until the server answers; it ends with the test run, whatever happens."""
    for _ in range(600):
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail("the server never answered")
