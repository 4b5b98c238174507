"""What stains is what was registered, file for file, or the difference is named."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from clinimm.core.errors import IntegrityError
from clinimm.core.record import RunRecord, digest_file
from clinimm.core.sign import canonical, sign
from clinimm.register.manifest import _records
from clinimm.staining.check_run import MANIFEST, check_run, run_of
from tests.staining.test_provenance import _pair

STAGES = {
    "ingest": ("events.parquet", "subjects.parquet"),
    "encode": ("notes/tokens.parquet", "notes/values.npy"),
}
NAMES = ("config.json", "model.safetensors", "safety.json")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    for name in (*(f"train/model/{one}" for one in NAMES), "evaluate/metrics.json", "pipeline.yaml"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for stage, names in STAGES.items():
        for name in names:
            (folder / stage / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / stage / name).write_text(name)
        outputs = {name: digest_file(folder / stage / name) for name in names}
        RunRecord(stage, {}, outputs, {}, "1", 0, "then", "later", {"wall": 1.0}).write(folder / stage)
    return folder


def register(run: Path, key: Path | None = None) -> None:
    """Sign all that is there, as the register stage does."""
    files = {
        path.relative_to(run).as_posix(): digest_file(path)
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.relative_to(run).parts[0] not in ("register", *STAGES)
    }
    body = {"schema": "clinimm-manifest/1", "files": files, "records": _records(run)}
    signature = asdict(sign(canonical(body), key))
    (run / "register").mkdir(exist_ok=True)
    (run / MANIFEST).write_text(json.dumps({"manifest": body, "signature": signature}))


def test_a_run_that_was_never_registered_is_known_as_such(run: Path) -> None:
    assert check_run(run, run / "train" / "model") is False


@pytest.mark.parametrize(
    "name", [*(f"train/model/{one}" for one in NAMES), "evaluate/metrics.json", "pipeline.yaml"]
)
@pytest.mark.parametrize("change", ["altered", "removed"])
def test_whatever_is_read_of_a_run_must_be_as_it_was_signed(run: Path, name: str, change: str) -> None:
    register(run)
    model = run / "train" / "model"
    assert check_run(run, model) is True
    if change == "altered":
        (run / name).write_text("other")
    else:
        (run / name).unlink()
    with pytest.raises(IntegrityError, match=rf"not what was registered: {name}\."):
        check_run(run, model)


def test_a_safety_case_that_came_later_was_signed_by_nobody(run: Path) -> None:
    (run / "train" / "model" / "safety.json").unlink()
    register(run)
    (run / "train" / "model" / "safety.json").write_text("a milder one")
    with pytest.raises(IntegrityError, match=r"train/model/safety\.json"):
        check_run(run, run / "train" / "model")


def test_a_manifest_that_was_edited_or_signed_by_a_stranger_is_refused(run: Path, tmp_path: Path) -> None:
    sign(b"makes the own key")
    private, public = _pair(tmp_path)
    register(run, private)
    with pytest.raises(IntegrityError, match="--key FILE"):
        check_run(run, run / "train" / "model")
    assert check_run(run, run / "train" / "model", public) is True
    text = (run / MANIFEST).read_text()
    (run / MANIFEST).write_text(text.replace("clinimm-manifest/1", "clinimm-manifest/9"))
    with pytest.raises(IntegrityError, match="changed after it was signed"):
        check_run(run, run / "train" / "model", public)
    (run / MANIFEST).write_text("{}")
    with pytest.raises(IntegrityError, match="not a signed manifest"):
        check_run(run, run / "train" / "model")


def test_the_model_of_a_run_leads_to_the_run(run: Path, tmp_path: Path) -> None:
    assert run_of(run / "train" / "model") == run
    assert run_of(run) == run
    assert run_of(tmp_path) == tmp_path


@pytest.mark.parametrize("name", [f"{stage}/{one}" for stage, names in STAGES.items() for one in names])
@pytest.mark.parametrize("change", ["altered", "removed"])
def test_what_stages_wrote_is_signed_through_their_records(run: Path, name: str, change: str) -> None:
    register(run)
    model = run / "train" / "model"
    assert check_run(run, model, with_tokens=True) is True
    if change == "altered":
        (run / name).write_text("another patient's")
    else:
        (run / name).unlink()
    with pytest.raises(IntegrityError, match=rf"not what was registered: {name}\."):
        check_run(run, model, with_tokens=True)
    if name.startswith("encode"):  # where no record conditions the stain, none is read
        assert check_run(run, model) is True


@pytest.mark.parametrize("stage", STAGES)
def test_a_record_that_was_edited_is_named_and_its_times_may_differ(run: Path, stage: str) -> None:
    register(run)
    path = run / stage / "record.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "finished": "later still"}))
    assert check_run(run, run / "train" / "model", with_tokens=True) is True
    for text in (json.dumps({**value, "notes": {"flags": {}}}), "{}"):
        path.write_text(text)
        with pytest.raises(IntegrityError, match=f"{stage}/record.json"):
            check_run(run, run / "train" / "model", with_tokens=True)


def test_tokens_of_a_modality_that_was_never_encoded_are_named(run: Path) -> None:
    register(run)
    (run / "encode" / "labs").mkdir()
    (run / "encode" / "labs" / "tokens.parquet").write_text("planted")
    with pytest.raises(IntegrityError, match=r"encode/labs/tokens\.parquet"):
        check_run(run, run / "train" / "model", with_tokens=True)


def test_a_model_that_leads_out_of_the_run_was_signed_by_nobody(run: Path, tmp_path: Path) -> None:
    register(run)
    (run / "train" / "model").rename(tmp_path / "elsewhere")
    (run / "train" / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="out of the registered run"):
        check_run(run, run / "train" / "model")
