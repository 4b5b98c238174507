"""Whether the simpler model, the twin without the record, is offered where it should be (law 5)."""

from __future__ import annotations

import math

from clinimm.staining.agreement import Figure
from clinimm.staining.record_help import record_warning
from clinimm.staining.verdict import StainEvidence, evidence_of
from tests.staining.measured_toy import draw_measured


def _evidence() -> StainEvidence:
    return evidence_of(draw_measured(0, {"model": 0.5}), "model", 12)


def _gains(correlation: tuple[float, float, float], auroc: tuple[float, float, float]) -> dict[str, Figure]:
    return {
        "region_correlation": Figure(*correlation, 12, "r"),
        "cell_auroc": Figure(*auroc, 12, "AUROC"),
        "psnr": Figure(3.0, 2.0, 4.0, 12, "dB"),  # likeness is no help that counts
    }


def test_a_record_that_adds_nothing_worth_having_is_not_recommended() -> None:
    (said,) = record_warning(_evidence(), _gains((0.01, -0.04, 0.06), (0.0, -0.02, 0.02)))
    assert said.startswith("The record did not help: train without it (`staining.context: false`).")
    assert "+0.01 (-0.04 to +0.06)" in said and "n = 12 subjects" in said


def test_a_twin_that_did_better_is_offered() -> None:
    (said,) = record_warning(_evidence(), _gains((-0.2, -0.4, -0.05), (0.05, -0.1, 0.3)))
    assert said.startswith("The record did not help")


def test_what_cannot_be_told_is_said_as_such() -> None:
    (said,) = record_warning(_evidence(), _gains((0.1, -0.2, 0.4), (0.02, -0.1, 0.3)))
    assert said.startswith("The record was not shown to help: train without it")
    unknown = (0.1, math.nan, math.nan)
    (said,) = record_warning(_evidence(), _gains(unknown, unknown))
    assert "no interval" in said


def test_nothing_is_said_where_the_record_helps_or_no_twin_was_trained() -> None:
    assert record_warning(_evidence(), _gains((0.2, 0.1, 0.3), (0.0, -0.02, 0.02))) == ()
    assert record_warning(_evidence(), {}) == ()
