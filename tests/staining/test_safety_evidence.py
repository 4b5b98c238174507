from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from clinimm.core.errors import DataError
from clinimm.simulate.artefacts import KINDS
from clinimm.staining.fit_safety import fit_safety
from clinimm.staining.pairs import StainPair
from clinimm.staining.safety import SafetyCase
from clinimm.staining.safety_evidence import NOISE, StainEvidence, judge_safety
from clinimm.staining.tile_examples import tile_examples
from tests.staining.safety_toy import RESOLUTION_UM, draw

STRIDE, TILE, SUBJECTS = 8, 128, 5


@dataclass
class Toy:
    """Knows the truth of every source that it was shown whole; others come out as they went in."""

    colour: Tensor
    uncertainty: Tensor
    feature_map: Tensor


def _run(image: Tensor, stain: str, subject_id: str) -> Toy:
    seed = int(subject_id)
    generator = torch.Generator().manual_seed(seed)
    tissue = draw(seed)
    truth, source = (
        torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255 for rgb in (tissue.target, tissue.source)
    )
    spoiled = (image - source).abs().mean(dim=1, keepdim=True) > 0.02
    scale = 0.01 + 0.04 * torch.rand((1, 1, 1, 1), generator=generator)
    noise = scale * torch.randn(truth.shape, generator=generator)
    colour = torch.where(spoiled, image, truth + noise).clamp(0, 1)
    return Toy(colour, scale.expand(1, 1, *image.shape[2:])[:, 0], F.avg_pool2d(image, STRIDE))


def _pairs(first: int, count: int) -> list[StainPair]:
    valid = np.ones((TILE, TILE), dtype=bool)
    return [
        StainPair(str(seed), "block", draw(seed).source, {"KI67": draw(seed).target}, valid, RESOLUTION_UM)
        for seed in range(first, first + count)
    ]


@pytest.fixture(scope="module")
def case() -> SafetyCase:
    train, tuning = (tile_examples(_run, STRIDE, _pairs(first, 12), TILE) for first in (6000, 6100))
    return fit_safety(train, tuning, RESOLUTION_UM, 0.1)


@pytest.fixture(scope="module")
def evidence(case: SafetyCase) -> StainEvidence:
    pairs = _pairs(6200, SUBJECTS)
    return judge_safety(case, _run, STRIDE, pairs, [draw(int(pair.subject_id)).nuclei for pair in pairs])[
        "KI67"
    ]


def test_every_figure_is_there_with_its_subjects(evidence: StainEvidence) -> None:
    assert set(evidence.outside) == set(evidence.outside_refused) == {*KINDS, NOISE}
    assert set(evidence.planted) == {"pasted", "erased"}
    for figure in (*evidence.outside.values(), *evidence.planted.values(), evidence.refused):
        assert figure.n == SUBJECTS
    assert (evidence.tiles, evidence.spoiled_curve.tiles) == (SUBJECTS, SUBJECTS * 10)
    json.dumps(evidence.to_json(), allow_nan=False)


def test_what_was_planted_is_found(evidence: StainEvidence) -> None:
    for figure in evidence.planted.values():
        assert figure.value > 0.9
    for kind in ("pen", "scanner", NOISE):
        assert evidence.outside[kind].value > 0.95
        assert evidence.outside_refused[kind].value > 0.9


def test_refusing_spoiled_tiles_lowers_the_error(evidence: StainEvidence) -> None:
    assert evidence.spoiled_curve.gain.low > 0.3
    assert evidence.spoiled_curve.random.value > 2 * evidence.curve.random.value


def test_without_known_nuclei_the_check_finds_them_itself(
    case: SafetyCase, evidence: StainEvidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinimm.staining.safety_evidence.KINDS", ("pen",))
    found = judge_safety(case, _run, STRIDE, _pairs(6200, SUBJECTS))["KI67"]
    assert found.planted["pasted"].value == pytest.approx(evidence.planted["pasted"].value, abs=0.15)


def test_nothing_held_out_is_refused_by_name(case: SafetyCase) -> None:
    with pytest.raises(DataError, match="no held-out pair"):
        judge_safety(case, _run, STRIDE, [])
