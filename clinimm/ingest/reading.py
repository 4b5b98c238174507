"""One file, read once: its digest, the modality that takes it, and what that makes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clinimm.config import IngestConfig
from clinimm.core.errors import InputRejected, MissingExtraError, Refusal
from clinimm.modality import Modality, Scan
from clinimm.sources.base import Source, SourceFile

#: Refusals that may be gone in the next run although the file is the same: such files are read again.
PASSING = frozenset(("unreadable", "missing-extra", "reader-failed", "reader-crashed"))
#: How ``clinimm simulate`` begins its ``truth.json``: no part of the export that it lies in.
TRUTH_SCHEMA = "clinimm.truth/1"
_HEAD_BYTES = 512
_KEEP_BYTES = 256 << 20
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Reading:
    """What one file gave.

    Attributes:
        file: the file as its source lists it.
        digest: SHA-256 of its bytes; empty where they were not read.
        scan: identities, facts and refusals.
        modality: which modality read it; None where none did.
    """

    file: SourceFile
    digest: str
    scan: Scan
    modality: str | None = None


class OnceSource:
    """A source that reads each file from its medium once, however often it is asked.

    Files above 256 MiB (slides) are not held; their readers go through ``local_path``.
    """

    def __init__(self, source: Source, rules: IngestConfig) -> None:
        self._source = source
        self.rules = rules
        self._path: str | None = None
        self._content = b""

    @property
    def site(self) -> str | None:
        """As the source's."""
        return self._source.site

    def files(self):  # type: ignore[no-untyped-def]  # as the source's
        """As the source's."""
        return self._source.files()

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        if path != self._path:
            self._content, self._path = self._source.read(path), path
        return self._content

    def local_path(self, path: str) -> Path:
        """As the source's."""
        return self._source.local_path(path)

    def head_and_digest(self, file: SourceFile) -> tuple[bytes, str]:
        """The first 512 bytes, and the SHA-256 of all."""
        if file.size <= _KEEP_BYTES:
            content = self.read(file.path)
            return content[:_HEAD_BYTES], hashlib.sha256(content).hexdigest()
        state = hashlib.sha256()
        with self.local_path(file.path).open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
            state.update(head)
            while chunk := stream.read(_CHUNK_BYTES):
                state.update(chunk)
        return head, state.hexdigest()


def read_file(source: OnceSource, file: SourceFile, modalities: Mapping[str, Modality]) -> Reading:
    """Read a file with the first modality that accepts it. Raises nothing: what is wrong is listed."""
    digest = ""
    try:
        _check_size(file, source.rules)
        head, digest = source.head_and_digest(file)
        if _is_truth(head):
            return Reading(file, digest, Scan(dropped={"simulated-truth": 1}))
        modality = _taker(file, head, modalities)
        return Reading(file, digest, modality.scan(source, file), modality.name)
    except InputRejected as refusal:
        return Reading(file, digest, refused(file, refusal.code, refusal.reason, refusal.remedy))
    except MissingExtraError as error:
        return Reading(
            file, digest, refused(file, "missing-extra", str(error), "install the extra and ingest again")
        )
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return Reading(
            file, digest, refused(file, "unreadable", reason, "check the file and its permissions")
        )
    except Exception as error:  # noqa: BLE001  # the one place where a reader's own failure becomes a refusal
        return Reading(file, digest, refused(file, "reader-failed", *_failure(error)))


def refused(file: SourceFile, code: str, reason: str, remedy: str) -> Scan:
    """A scan that holds nothing but the refusal of the whole file."""
    return Scan(refusals=(Refusal(file.path, "file", code, reason, remedy),))


def _check_size(file: SourceFile, rules: IngestConfig) -> None:
    if file.size == 0:
        raise InputRejected("empty-file", "the file has no bytes", "export it again")
    if file.size > rules.max_file_mib << 20:
        raise InputRejected(
            "too-large",
            f"{file.size >> 20} MiB are more than ingest.max_file_mib ({rules.max_file_mib})",
            "split the file, or raise ingest.max_file_mib",
        )


def _is_truth(head: bytes) -> bool:
    return head.startswith(b"{") and f'"schema": "{TRUTH_SCHEMA}"'.encode() in head


def _taker(file: SourceFile, head: bytes, modalities: Mapping[str, Modality]) -> Modality:
    missing: MissingExtraError | None = None
    for modality in modalities.values():
        try:
            if modality.accepts(file.path, head):
                return modality
        except MissingExtraError as error:
            missing = error
    if missing is not None:
        raise missing
    raise InputRejected(
        "unknown-format",
        f"no modality reads such a file (asked {', '.join(modalities)})",
        "move it out of the export if it holds no patient data, else convert it to DICOM, FHIR or a slide",
    )


def _failure(error: Exception) -> tuple[str, str]:
    """Reason and remedy. The message is left out: it may quote the patient."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    place = f" in {Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where else ""
    return f"the reader failed with {name}{place}", "report it with the file, if the file is sound"
