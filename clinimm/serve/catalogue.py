"""The runs that are served: those whose files are, byte for byte, what was signed, and no others."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.core.errors import CliniMMError, ConfigError, IntegrityError
from clinimm.core.record import RECORD_NAME, RunRecord, digest_file, digest_tree
from clinimm.explain.select import explained_class
from clinimm.gate.check import Allowed, check_run, release_of
from clinimm.gate.log import LOG_FOLDER
from clinimm.gate.rules import GOVERNANCE_VARIABLE, load_governance
from clinimm.register.gate import PASSED
from clinimm.register.manifest import MANIFEST_NAME, Manifest, verify_manifest
from clinimm.report.facts import RunFacts
from clinimm.serve.errors import Refused, not_found
from clinimm.serve.settings import ServeSettings
from clinimm.settings import PIPELINE_COPY, load_run
from clinimm.workspace import Workspace

#: (stage, files) that pages show and the manifest covers only through the stage's record.
_SHOWN = (
    ("ingest", "*.parquet"),
    ("cohort", "*.json"),
    ("encode", "*.parquet"),
    ("encode", "*.json"),
    ("evaluate", "figures/*.svg"),
    ("explain", "*.parquet"),
    ("audit", "published/audit.json"),
)

#: Where those and the signed files lie; a change among them makes a run be verified again.
_WATCHED = (
    "*.yaml",
    "*/*.json",
    "*/*.parquet",
    "train/model/**/*",
    "evaluate/figures/*",
    "audit/published/*.json",
)
#: What an explanation on request is computed from, beside the signed files.
_COMPUTED_FROM = ("encode", "train")


class ServedRun:
    """A run whose signature holds.

    Args:
        workspace: the run.
        manifest: what was signed.
        release: that the gate lets it be served; None shows it as research.
    """

    def __init__(self, workspace: Workspace, manifest: Manifest, release: Allowed | None = None) -> None:
        self.workspace, self.manifest = workspace, manifest
        self.facts = RunFacts(workspace)
        #: What the gate said when the run was read here; pages ask nobody else.
        self.facts.release = release
        self.name = workspace.config.name

    @cached_property
    def answers(self) -> pd.DataFrame:
        """One row a held-out subject: the answer that its page is about, indexed by the subject."""
        return explained_class(self.facts.predictions).set_index("subject_id", drop=False)

    @cached_property
    def sites(self) -> dict[str, str]:
        """Subject -> its site, where one is known."""
        known = self.facts.cohort.set_index("subject_id")["site_id"].dropna()
        return {str(subject): str(site) for subject, site in known.items()}

    def subjects(self, sites: frozenset[str] | None = None) -> frozenset[str]:
        """The subjects that have an answer; of some sites, those that are known to be there."""
        everybody = frozenset(self.answers["subject_id"].astype(str))
        if sites is None:
            return everybody
        return frozenset(subject for subject in everybody if self.sites.get(subject) in sites)

    @property
    def classes(self) -> tuple[str, ...]:
        """What the answer may be: one class for yes or no, else several."""
        return tuple(str(name) for name in self.facts.task["classes"])

    def probability(self, subject_id: str, class_name: str) -> float:
        """What the model says of one class, in the fit that the subject's page is about."""
        table = self.facts.predictions
        rows = table[(table["subject_id"] == subject_id) & (table["class_name"] == class_name)]
        rows = rows[(rows["split"] == "held_out") & (rows["repeat"] == self.answer(subject_id)["repeat"])]
        return float(rows["probability"].iloc[0])

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


_State = tuple[tuple[str, int, int, int, int], ...]


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

    def confirm(self, run: ServedRun) -> None:
        """A page was made from this run's files: none of them changed meanwhile.

        Raises:
            Refused: the run was replaced; what was read may be of two runs.
        """
        known = self._known.get(run.name)
        if known is None or known.run is not run or self._state(run.workspace.root) != known.state:
            raise Refused(
                HTTPStatus.CONFLICT, "run-changed", "This run was changed meanwhile. Load the page again.", 5
            )

    def _all(self) -> dict[str, _Known]:
        return {name: self._look(name, folder) for name, folder in self._folders().items()}

    def _folders(self) -> dict[str, Path]:
        if (self.folder / PIPELINE_COPY).is_file():
            return {self.folder.resolve().name: self.folder.resolve()}
        return {path.parent.name: path.parent for path in sorted(self.folder.glob(f"*/{PIPELINE_COPY}"))}

    def _state(self, folder: Path) -> _State:
        """What a run and its release rest on, and the day: approvals end without a file that changes."""
        trusted = self._settings.governance or Path(os.environ.get(GOVERNANCE_VARIABLE) or "governance")
        today = (datetime.now(UTC).date().isoformat(), 0, 0, 0, 0)
        gate = _files((folder.parent / LOG_FOLDER, "*"), (trusted, "**/*"))
        return (*_files(*((folder, pattern) for pattern in _WATCHED)), *gate, today)

    def _look(self, name: str, folder: Path) -> _Known:
        """A run, verified again whenever one of its files has changed."""
        with self._lock:
            known, state = self._known.get(name), self._state(folder)
            if known is not None and known.state == state:
                return known
            # The state is from before: what changes meanwhile is seen the next time.
            try:
                run, reason = self._verified(folder), ""
            except (CliniMMError, OSError) as error:
                run, reason = None, _without_paths(str(error), folder)
            known = self._known[name] = _Known(state, run, reason)
            return known

    def _manifest(self, folder: Path) -> Manifest:
        """What was signed: by the settings' key, else, for service, by an author whom the gate lists."""
        path, key = folder / "register" / MANIFEST_NAME, self._settings.trusted_key
        if key is not None or self._settings.unapproved_runs == "research":
            return verify_manifest(folder, path, key)
        authors = load_governance(self._settings.governance).keys_of("author")
        return verify_manifest(folder, path, trusted=authors)

    def _release(self, folder: Path) -> Allowed | None:
        """That the gate lets a run be served; None where it is shown as research.

        Raises:
            GateRefused: it does not.
            ConfigError: there is no ``gate.yaml``.
        """
        if self._settings.unapproved_runs == "refuse":
            return check_run(folder, "serve", load_governance(self._settings.governance))
        try:
            return release_of(folder, load_governance(self._settings.governance))
        except ConfigError:
            return None

    def _verified(self, folder: Path) -> ServedRun:
        manifest = self._manifest(folder)
        if load_run(folder).staining is not None:
            raise ConfigError(
                "it makes stained tiles and no answers about patients; `clinimm report` writes its pages."
            )
        for needed in ("predict/predictions.parquet", "train/model/config.json", "audit/audit.json"):
            if needed not in manifest.files:
                raise IntegrityError(f"its signed manifest does not cover {needed}.")
        _check_outputs(folder)
        run = ServedRun(Workspace(load_run(folder)), manifest, self._release(folder))
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
            if path.name != RECORD_NAME
            and not path.name.startswith(".")
            and known.get(str(path.relative_to(folder / stage))) != digest_file(path)
        ]
    if wrong:
        raise IntegrityError(f"not as its stages wrote it: {', '.join(wrong)}.")


@contextmanager
def computed_from_signed(run: ServedRun) -> Iterator[None]:
    """The fits and tokens that an explanation is computed from are those that the run's records name.

    They are large and no page shows them, so they are read when they are used. What is swapped while the
    block runs is found at its end, also where it was put back: nobody can set the time of change (ctime).

    Raises:
        IntegrityError: one is not as its stage wrote it, or was touched meanwhile.
    """
    root = run.workspace.root
    places = [(root / stage, "**/*") for stage in _COMPUTED_FROM]
    before = _files(*places)
    _check_computed_from(root)
    yield
    if _files(*places) != before:
        raise IntegrityError("a file that the explanation is computed from was changed meanwhile.")


def _check_computed_from(root: Path) -> None:
    for stage in _COMPUTED_FROM:
        record = RunRecord.read(root / stage)
        known = record.outputs if record is not None else {}
        there = {name: digest for name, digest in digest_tree(root / stage).items() if name in known}
        if wrong := sorted(name for name, digest in known.items() if there.get(name) != digest):
            raise IntegrityError(f"not as its stage wrote it: {stage}/{wrong[0]}.")


def _files(*places: tuple[Path, str]) -> _State:
    """Size, times and inode of every file that a page could rest on."""
    found = []
    for folder, pattern in places:
        for path in sorted(folder.glob(pattern)):
            if path.name.startswith("."):
                continue
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                # The time of change (ctime) can be set by nobody; the time of writing can.
                times = (status.st_mtime_ns, status.st_ctime_ns)
                found.append((str(path), status.st_size, *times, status.st_ino))
    return tuple(found)


def _without_paths(text: str, folder: Path) -> str:
    """A reason without telling where on this machine the run lies."""
    return text.replace(str(folder), folder.name).replace(str(folder.parent), "")
