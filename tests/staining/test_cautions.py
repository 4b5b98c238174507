from __future__ import annotations

import numpy as np

from clinimm.staining.cautions import Cautions
from clinimm.staining.label_mark import label, shows_label


def test_unless_it_is_said_nothing_is_known() -> None:
    said = " ".join(Cautions().sentences)
    for words in ("No safety case", "not registered", "not evaluated"):
        assert words in said
    fine = Cautions(registered=True, safety_case=True, evaluated=True, record="of this slide")
    assert fine.sentences == fine.notes == ()


def test_the_gravest_stand_in_the_corner_and_the_label_is_still_found() -> None:
    cautions = Cautions(despite="Nobody knows.", trained_on_synthetic=True)
    assert cautions.notes == (
        "NO SAFETY CASE",
        "VERDICT OVERRIDDEN",
        "NOT EVALUATED",
        "TRAINED ON SYNTHETIC",
        "NOT REGISTERED",
    )
    assert cautions.sentences[-1] == "Made despite the verdict: Nobody knows."
    plain, noted = label("KI67", 2000, 2000), label("KI67", 2000, 2000, cautions.notes)
    assert noted.shape[0] > plain.shape[0]
    picture = np.full((400, 600, 3), 230, np.uint8)
    picture[: noted.shape[0], : noted.shape[1]] = noted
    assert shows_label(picture[:128, :256])


def test_pairs_that_nobody_measured_are_named() -> None:
    said = "Training pairs were taken as registered; no error was measured."
    assert said in Cautions(as_registered=True).sentences
    assert said not in Cautions().sentences  # of a run without an evaluation that is not known


def test_record_is_named() -> None:
    assert "chosen by the user" in " ".join(Cautions(record="chosen by the user").sentences)
    assert "was given none" in " ".join(Cautions(record="none given").sentences)
