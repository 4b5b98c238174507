"""Explanations that were made on request: signed by this server, because the run's signature is older.

What the run explained itself is covered by its signed records. What is explained later lies beside it,
where anybody with access to the folder could put something else; so the server signs the digests of
what it made, and shows nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from clinimm.core.record import digest_tree, write_text
from clinimm.core.sign import Signature, canonical, is_whole, sign
from clinimm.serve.catalogue import ServedRun

SCHEMA = "clinimm-requested-explanation/1"
#: Where ``explain_subjects`` leaves what was asked for later (``explain/stage.py``).
_REQUESTED = ("explain", ".requested")


class Vouchers:
    """What this server signed, a file a run and subject.

    Args:
        folder: where they lie.
        key_file: private key that signs; None is this user's own.
    """

    def __init__(self, folder: Path, key_file: Path | None = None) -> None:
        self._folder, self._key_file = folder, key_file
        self._public_key = sign(b"", key_file).public_key

    def vouch(self, run: ServedRun, subject_id: str) -> None:
        """Sign the explanation that lies there now."""
        content = _content(run, subject_id)
        signed = {"signature": asdict(sign(content, self._key_file))}
        path = self._path(run, subject_id)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_text(path, json.dumps(signed, indent=1, sort_keys=True) + "\n")

    def holds(self, run: ServedRun, subject_id: str) -> bool:
        """Whether the explanation that lies there is one that this server made, from this run."""
        try:
            value = json.loads(self._path(run, subject_id).read_text(encoding="utf-8"))
            signature = Signature(**value["signature"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        own = signature.public_key == self._public_key
        return own and is_whole(_content(run, subject_id), signature)

    def _path(self, run: ServedRun, subject_id: str) -> Path:
        return self._folder / run.name / f"{subject_id}.json"


def requested_folder(run: ServedRun, subject_id: str) -> Path:
    """Where the explanation of a subject lies that the run itself did not make."""
    return run.workspace.root.joinpath(*_REQUESTED, subject_id)


def _content(run: ServedRun, subject_id: str) -> bytes:
    """What is signed: the tables, of whom, and from which signed run."""
    body = {
        "schema": SCHEMA,
        "run": run.name,
        "manifest": run.manifest.signature.value,
        "subject": subject_id,
        "tables": digest_tree(requested_folder(run, subject_id)),
    }
    return canonical(body)
