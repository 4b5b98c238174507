"""A modality of one-line files, for tests of ingest: ``PATIENT TIME CODE VALUE``, or trouble."""

from __future__ import annotations

import os
import signal
from datetime import datetime
from typing import Any

from clinimm.core.fact import Fact
from clinimm.modality import Identity, Modality, Scan
from clinimm.sources.base import Source, SourceFile


def accepts(path: str, head: bytes) -> bool:
    return path.endswith(".toy")


def scan(source: Source, file: SourceFile) -> Scan:
    text = source.read(file.path).decode()
    if text == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if text == "raise":
        raise ZeroDivisionError("Mrs Brannick, born 1984-07-02")
    patient, time, code, value = text.split()
    who = (None, patient)
    fact = Fact(
        patient=who, time=datetime.fromisoformat(time), code=code, modality="toy", category="toy",
        numeric_value=float(value), instance=file.path, is_file=True,
    )  # fmt: skip
    return Scan(identities=(Identity(keys=(who,)),), facts=(fact,))


def _unused(*_: Any) -> Any:
    raise NotImplementedError


TOY = Modality("toy", "Toy", "toy", accepts, scan, _unused, _unused, _unused, _unused)
