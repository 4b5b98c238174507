"""The runs that are served: those whose files are, byte for byte, what was signed, and no others."""

from __future__ import annotations

import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.core.errors import CliniMMError, ConfigError, IntegrityError
from clinimm.core.record import RunRecord, digest_file
from clinimm.explain.select import explained_class
from clinimm.register.gate import PASSED
from clinimm.register.manifest import MANIFEST_NAME, Manifest, verify_manifest
from clinimm.report.facts import RunFacts
from clinimm.serve.errors import Refused, not_found
from clinimm.serve.settings import ServeSettings
from clinimm.settings import PIPELINE_COPY, load_run
from clinimm.workspace import Workspace

#: (stage, files) that pages show and the manifest covers only through the stage's record.
_SHOWN = (
    ("ingest", "events.parquet"),
    ("cohort", "spec.json"),
    ("cohort", "flow.json"),
    ("encode", "refusals.parquet"),
    ("explain", "*.parquet"),
)

#: Where those and the signed files lie; a change among them makes a run be verified again.
_WATCHED = ("*.yaml", "*/*.json", "*/*.parquet", "train/model/*")


class ServedRun:
    """A run whose signature holds.

    Args:
        workspace: the run.
        manifest: what was signed.
    """

    def __init__(self, workspace: Workspace, manifest: Manifest) -> None:
        self.workspace, self.manifest = workspace, manifest
        self.facts = RunFacts(workspace)
        self.name = workspace.config.name

    @cached_property
    def answers(self) -> pd.DataFrame:
        """One row a held-out subject: the answer that its page is about, indexed by the subject."""
        return explained_class(self.facts.predictions).set_index("subject_id", drop=False)

    def answer(self, subject_id: str) -> Mapping[str, Any]:
        """The answer for a subject.

        Raises:
            Refused: the run has none.
        """
        if subject_id not in self.answers.index:
            raise not_found("patient")
        return {str(key): value for key, value in self.answers.loc[subject_id].to_dict().items()}

    @property
    def blocked(self) -> bool:
        """Whether the audit that was signed keeps it from being a candidate."""
        return not self.facts.audit or self.facts.audit.get("exit_status") != PASSED


_State = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class _Known:
    """A run as it was verified, or why it is not served; holds while no file changes."""

    state: _State
    run: ServedRun | None
    reason: str


class Catalogue:
    """The runs in a folder, or one run.

    Args:
        folder: of the runs, or of one run.
        settings: whose signature is trusted, and what happens to runs that the audit blocks.

    Raises:
        ConfigError: there is no run.
    """

    def __init__(self, folder: Path, settings: ServeSettings) -> None:
        self.folder, self._settings = folder, settings
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        if not self._folders():
            raise ConfigError(f"{folder}: neither the folder of a run nor a folder of runs.")

    @property
    def home(self) -> Path:
        """The folder that holds the runs."""
        return self.folder.parent if (self.folder / PIPELINE_COPY).is_file() else self.folder

    def runs(self) -> list[ServedRun]:
        """Every run that is served, by name."""
        return [known.run for known in self._all().values() if known.run is not None]

    def refused(self) -> dict[str, str]:
        """Every run that is not served, with the reason."""
        return {name: known.reason for name, known in self._all().items() if known.run is None}

    def run(self, name: str) -> ServedRun:
        """A run by name.

        Raises:
            Refused: there is none, or it is not as it was signed.
        """
        folder = self._folders().get(name)
        if folder is None:
            raise not_found("run")
        known = self._look(name, folder)
        if known.run is None:
            raise Refused(HTTPStatus.CONFLICT, "run-not-served", f"This run is not served: {known.reason}")
        return known.run

    def _all(self) -> dict[str, _Known]:
        return {name: self._look(name, folder) for name, folder in self._folders().items()}

    def _folders(self) -> dict[str, Path]:
        if (self.folder / PIPELINE_COPY).is_file():
            return {self.folder.resolve().name: self.folder.resolve()}
        return {path.parent.name: path.parent for path in sorted(self.folder.glob(f"*/{PIPELINE_COPY}"))}

    def _look(self, name: str, folder: Path) -> _Known:
        """A run, verified again whenever one of its files has changed."""
        with self._lock:
            known, state = self._known.get(name), _state(folder)
            if known is not None and known.state == state:
                return known
            # The state is from before: what changes meanwhile is seen the next time.
            try:
                run, reason = self._verified(folder), ""
            except (CliniMMError, OSError) as error:
                run, reason = None, _without_paths(str(error), folder)
            known = self._known[name] = _Known(state, run, reason)
            return known

    def _verified(self, folder: Path) -> ServedRun:
        manifest = verify_manifest(folder, folder / "register" / MANIFEST_NAME, self._settings.trusted_key)
        for needed in ("predict/predictions.parquet", "train/model/config.json", "audit/audit.json"):
            if needed not in manifest.files:
                raise IntegrityError(f"its signed manifest does not cover {needed}.")
        _check_outputs(folder)
        run = ServedRun(Workspace(load_run(folder)), manifest)
        if run.facts.model_digest != manifest.model_digest:
            raise IntegrityError("its model is not the one that was signed.")
        if run.blocked and self._settings.blocked_runs == "refuse":
            raise IntegrityError("its audit blocks it (blocked_runs: show would show it all the same).")
        return run


def _check_outputs(folder: Path) -> None:
    """What is shown and not in the manifest itself: as the stages' records say, which were signed."""
    wrong = []
    for stage, pattern in _SHOWN:
        record = RunRecord.read(folder / stage)
        known = record.outputs if record is not None else {}
        wrong += [
            f"{stage}/{path.name}"
            for path in sorted((folder / stage).glob(pattern))
            if known.get(path.name) != digest_file(path)
        ]
    if wrong:
        raise IntegrityError(f"not as its stages wrote it: {', '.join(wrong)}.")


def _state(folder: Path) -> _State:
    """Size, time and inode of every file that a page could rest on."""
    found = []
    for pattern in _WATCHED:
        for path in sorted(folder.glob(pattern)):
            if path.name.startswith("."):
                continue
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                found.append((str(path), status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(found)


def _without_paths(text: str, folder: Path) -> str:
    """A reason without telling where on this machine the run lies."""
    return text.replace(str(folder), folder.name).replace(str(folder.parent), "")
