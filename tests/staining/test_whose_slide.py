"""A slide is known to a run by its content, its place or its patient, and belongs to that subject."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from clinimm.core.errors import DataError
from clinimm.core.pseudonym import KEY_VARIABLE, Pseudonymiser
from clinimm.core.record import digest_file
from clinimm.sources.base import Opener
from clinimm.staining.whose_slide import check_subject, owners, run_key
from tests.staining.test_write_dicom import _source

TEXT = "0123456789abcdef0123"
KEY = Pseudonymiser(TEXT.encode())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose ingest met a slide by content, one by place, and a patient."""
    folder = tmp_path / "run"
    (folder / "ingest").mkdir(parents=True)
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in ("content", "place", "stranger"):
        (slides / f"{name}.svs").write_text(name)
    (folder / "pipeline.yaml").write_text(f"name: run\nsources:\n- {{kind: local, root: {slides}}}\n")
    opener = Opener((), KEY)
    events = pd.DataFrame(
        [
            ("ANN", "pathology", digest_file(slides / "content.svs"), opener.seal(0, "old.svs")),
            ("BOB", "pathology", "0" * 64, opener.seal(0, "place.svs")),
            ("EVE", "notes", digest_file(slides / "stranger.svs"), None),
        ],
        columns=["subject_id", "modality", "digest", "uri"],
    )
    events.to_parquet(folder / "ingest" / "events.parquet")
    subjects = pd.DataFrame([("CAT", KEY.identifier("MRN77"))], columns=["subject_id", "identifier_hash"])
    subjects.to_parquet(folder / "ingest" / "subjects.parquet")
    return folder


def test_a_slide_is_known_by_content_place_or_patient(run: Path) -> None:
    slides = run.parent / "slides"
    assert owners(run, slides / "content.svs", KEY) == {"ANN"}
    assert owners(run, slides / "place.svs", KEY) == {"BOB"}
    assert owners(run, slides / "stranger.svs", KEY) == frozenset()
    assert owners(run, _source(run.parent / "dicom"), KEY) == {"CAT"}


def test_without_the_key_the_content_is_all_there_is(run: Path) -> None:
    slides = run.parent / "slides"
    assert owners(run, slides / "content.svs", None) == {"ANN"}
    assert owners(run, slides / "place.svs", None) == frozenset()
    assert owners(run.parent, slides / "content.svs", KEY) == frozenset()  # no run


def test_a_known_slide_admits_its_own_subject_only() -> None:
    check_subject("ANN", frozenset({"ANN"}))
    check_subject("ANN", frozenset())
    check_subject(None, frozenset({"ANN"}))
    with pytest.raises(DataError, match="another subject's"):
        check_subject("BOB", frozenset({"ANN"}))


def test_a_key_is_used_where_there_is_one_and_never_made(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert run_key(run) is None
    assert not (tmp_path / "config").exists()
    monkeypatch.setenv(KEY_VARIABLE, TEXT)
    found = run_key(run)
    assert found is not None and found.identifier("x") == KEY.identifier("x")
    assert run_key(tmp_path) is None
