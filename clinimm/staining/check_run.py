"""Is the model that stains the one that was registered? Checked before a pixel is made.

A registered run has a signed manifest (``register/manifest.json``) with the digest of every file that its
model stands on. What ``clinimm stain`` reads of a run must be as it says; a run without one is
used, and said to be not registered.
"""

from __future__ import annotations

import json
from pathlib import Path

from clinimm.core.errors import IntegrityError
from clinimm.core.record import digest_file
from clinimm.core.sign import Signature, canonical, check
from clinimm.settings import PIPELINE_COPY

MANIFEST = "register/manifest.json"
_MODEL = ("train", "model")
#: What is read of a run besides the files of its model.
_READ = ("evaluate/metrics.json", PIPELINE_COPY)


def run_of(folder: Path) -> Path:
    """The run that a folder is, or whose shipped model it is; the folder itself where it is of no run."""
    path = folder.resolve()
    above = path.parents[1] if path.parts[-2:] == _MODEL else path
    return above if (above / PIPELINE_COPY).is_file() else folder


def check_run(run: Path, model: Path, trusted_key: Path | None = None) -> bool:
    """Whether the run is registered; if it is, what is read of it is as it was signed.

    Args:
        run: its folder.
        model: folder of its stainer and safety case, below ``run``.
        trusted_key: the signer's public key (PEM); None is this user's own.

    Raises:
        IntegrityError: a file differs from the signed manifest or is not in it, the manifest was changed,
            or its key is not trusted; names the files.
    """
    path = run / MANIFEST
    if not path.is_file():
        return False
    signed = _signed_files(path, trusted_key)
    folder = model.resolve().relative_to(run.resolve()).as_posix()
    present = {
        f"{folder}/{one.name}" for one in model.iterdir() if one.is_file() and not one.name.startswith(".")
    }
    named = {name for name in signed if name.rpartition("/")[0] == folder or name in _READ}
    read = present | named | {name for name in _READ if (run / name).is_file()}
    wrong = sorted(name for name in read if _digest(run / name) != signed.get(name))
    if wrong:
        raise IntegrityError(
            f"{run}: not what was registered: {', '.join(wrong)}. Register the run again "
            "(`clinimm register`) if the change was meant; else take the run as it was."
        )
    return True


def _signed_files(path: Path, trusted_key: Path | None) -> dict[str, str]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        body, signature = dict(value["manifest"]), Signature(**value["signature"])
        files = {str(name): str(digest) for name, digest in body["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path}: not a signed manifest.") from error
    check(canonical(body), signature, trusted_key)
    return files


def _digest(path: Path) -> str | None:
    return digest_file(path) if path.is_file() else None
