"""The safety case is asked about tissue, in the form that it was fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from clinimm.staining.plan import Block
from clinimm.staining.refuse_tile import RefuseTile
from clinimm.staining.tissue_damage import UNDAMAGED, Damage, TissueDamage
from tests.staining.whole_slide_parts import tissue


class Refuser:
    """Refuses everything, and keeps what it was asked."""

    def __init__(self, digest: str = "d") -> None:
        self.digest = digest
        self.asked: list[tuple[object, ...]] = []

    def __call__(self, *parts: np.ndarray) -> tuple[str, ...]:
        self.asked.append(parts)
        return ("outside",)


def _ask(source: np.ndarray, damage: TissueDamage | None = None) -> tuple[bool, Refuser]:
    refuser = Refuser()
    error = np.full(source.shape[:2], 0.1, np.float32)
    refuse = RefuseTile(refuser, damage)  # type: ignore[arg-type]  # stands in for a safety case's
    place = Block(0, 0, *source.shape[:2])
    reasons = refuse(source, tissue(*source.shape[:2], seed=1), error, np.ones(8, np.float32), place)
    return bool(reasons), refuser


def test_tissue_is_judged_as_it_is() -> None:
    refused, refuser = _ask(tissue(256, 256))
    assert refused
    source, colour, error, features, damage = refuser.asked[0]
    assert damage == UNDAMAGED
    assert (source == tissue(256, 256)).all() and (colour == tissue(256, 256, seed=1)).all()
    assert error.shape == (256, 256) and features.shape == (8,)


def test_bare_glass_is_not_judged() -> None:
    refused, refuser = _ask(np.full((256, 256, 3), 250, np.uint8))
    assert not refused and refuser.asked == []


@pytest.mark.parametrize("size", [(5, 256), (256, 1), (3, 4)])
def test_slivers_at_the_edge_are_mirrored_to_a_size_that_has_a_texture(size: tuple[int, int]) -> None:
    refused, refuser = _ask(tissue(*size))
    assert refused
    shapes = [np.asarray(part).shape[:2] for part in refuser.asked[0][:3]]
    assert len(set(shapes)) == 1 and min(shapes[0]) >= 64


def test_what_lies_on_the_tissue_is_asked_with_it() -> None:
    inked = tissue(400, 400)
    inked[:, :250] = (25, 130, 70)
    _, refuser = _ask(inked, TissueDamage.of_picture(inked, 0.5))
    found = refuser.asked[0][4]
    assert isinstance(found, Damage) and found.kind == "pen" and found.share > 0.6


def test_digest_follows_what_decides() -> None:
    one, other = (RefuseTile(Refuser(name)).digest for name in "ab")  # type: ignore[arg-type]
    assert one != other
