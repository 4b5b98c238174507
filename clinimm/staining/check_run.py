"""Is the model that stains the one that was registered? Checked before a pixel is made.

A registered run has a signed manifest (``register/manifest.json``) with the digest of every file that its
model stands on, and of each stage's record, which has the digests of what the stage wrote. What
``clinimm stain`` reads of a run must be as they say; a run without a manifest is used, and said to be not
registered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from clinimm.core.errors import IntegrityError
from clinimm.core.record import RECORD_NAME, RunRecord, digest_file, digest_json
from clinimm.core.sign import Signature, canonical, check
from clinimm.settings import PIPELINE_COPY

MANIFEST = "register/manifest.json"
_MODEL = ("train", "model")
#: What is read of a run besides the files of its model.
_READ = ("evaluate/metrics.json", PIPELINE_COPY)
#: What is read of stages whose files are signed through their record: whose slide it is, and its tokens.
_INGEST = ("events.parquet", "subjects.parquet")
_TOKENS = ("*/tokens.parquet", "*/values.npy")
#: What the signature over a record leaves out: it differs when the very same thing is done again.
_PASSING = ("started", "finished", "cost")


@dataclass(frozen=True)
class _Signed:
    """Of a manifest: path -> digest, and stage -> digest of its record."""

    files: Mapping[str, str]
    records: Mapping[str, str]


def run_of(folder: Path) -> Path:
    """The run that a folder is, or whose shipped model it is; the folder itself where it is of no run."""
    path = folder.resolve()
    above = path.parents[1] if path.parts[-2:] == _MODEL else path
    return above if (above / PIPELINE_COPY).is_file() else folder


def check_run(run: Path, model: Path, trusted_key: Path | None = None, with_tokens: bool = False) -> bool:
    """Whether the run is registered; if it is, what is read of it is as it was signed.

    Args:
        run: its folder.
        model: folder of its stainer and safety case, below ``run``.
        trusted_key: the signer's public key (PEM); None is this user's own.
        with_tokens: whether a subject's encoded record will be read as well.

    Raises:
        IntegrityError: a file differs from the signed manifest or is not in it, the model lies outside of
            the run, the manifest was changed, or its key is not trusted; names the files.
    """
    path = run / MANIFEST
    if not path.is_file():
        return False
    signed = _read_signed(path, trusted_key)
    wrong = _wrong_files(run, model, signed.files) + _wrong_of_stage(run, "ingest", _INGEST, signed.records)
    if with_tokens:
        wrong += _wrong_of_stage(run, "encode", _TOKENS, signed.records)
    if wrong:
        raise IntegrityError(
            f"{run}: not what was registered: {', '.join(wrong)}. Register the run again "
            "(`clinimm register`) if the change was meant; else take the run as it was."
        )
    return True


def _wrong_files(run: Path, model: Path, signed: Mapping[str, str]) -> list[str]:
    """The files that the manifest names itself."""
    inside, root = model.resolve(), run.resolve()
    if not inside.is_relative_to(root):
        raise IntegrityError(f"{model}: leads out of the registered run to {inside}, which nobody signed.")
    folder = inside.relative_to(root).as_posix()
    present = {
        f"{folder}/{one.name}" for one in model.iterdir() if one.is_file() and not one.name.startswith(".")
    }
    named = {name for name in signed if name.rpartition("/")[0] == folder or name in _READ}
    read = present | named | {name for name in _READ if (run / name).is_file()}
    return sorted(name for name in read if _digest(run / name) != signed.get(name))


def _wrong_of_stage(
    run: Path, stage: str, patterns: tuple[str, ...], records: Mapping[str, str]
) -> list[str]:
    """The stage's record where it is not as signed; else the files that are not as the record says."""
    folder = run / stage
    record = RunRecord.read(folder)
    if (None if record is None else _lasting(record)) != records.get(stage):
        return [f"{stage}/{RECORD_NAME}"]
    outputs = {} if record is None else record.outputs
    present = {
        one.relative_to(folder).as_posix()
        for pattern in patterns
        for one in folder.glob(pattern)
        if one.is_file()
    }
    named = {name for name in outputs if any(Path(name).match(pattern) for pattern in patterns)}
    wrong = (name for name in present | named if _digest(folder / name) != outputs.get(name))
    return sorted(f"{stage}/{name}" for name in wrong)


def _lasting(record: RunRecord) -> str:
    """The digest that the register stage signs of a record."""
    return digest_json({key: value for key, value in asdict(record).items() if key not in _PASSING})


def _read_signed(path: Path, trusted_key: Path | None) -> _Signed:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        body, signature = dict(value["manifest"]), Signature(**value["signature"])
        files = {str(name): str(digest) for name, digest in body["files"].items()}
        records = {str(stage): str(digest) for stage, digest in body.get("records", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path}: not a signed manifest.") from error
    check(canonical(body), signature, trusted_key)
    return _Signed(files, records)


def _digest(path: Path) -> str | None:
    return digest_file(path) if path.is_file() else None
