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


def _ask(
    source: np.ndarray, damage: TissueDamage | None = None, colour: np.ndarray | None = None
) -> tuple[tuple[str, ...], Refuser]:
    refuser = Refuser()
    error = np.full(source.shape[:2], 0.1, np.float32)
    refuse = RefuseTile(refuser, damage)  # type: ignore[arg-type]  # stands in for a safety case's
    place = Block(0, 0, *source.shape[:2])
    made = tissue(source.shape[0], source.shape[1], seed=1) if colour is None else colour
    return refuse(source, made, error, np.ones(8, np.float32), place), refuser


def test_tissue_is_judged_as_it_is() -> None:
    refused, refuser = _ask(tissue(256, 256))
    assert refused
    source, colour, error, features, damage = refuser.asked[0]
    assert damage == UNDAMAGED
    assert (source == tissue(256, 256)).all() and (colour == tissue(256, 256, seed=1)).all()
    assert np.shape(error) == (256, 256) and np.shape(features) == (8,)


GLASS = np.full((256, 256, 3), 250, np.uint8)


def _nuclei(count: int) -> np.ndarray:
    """Glass with discs of 8 pixels' radius, as a nucleus has at 0.5 µm a pixel."""
    made = GLASS.copy()
    rows, columns = np.indices(made.shape[:2])
    for index in range(count):
        row, column = 20 + 40 * (index // 6), 20 + 40 * (index % 6)
        made[(rows - row) ** 2 + (columns - column) ** 2 <= 64] = (90, 60, 130)
    return made


def test_glass_that_stays_glass_is_not_judged() -> None:
    refused, refuser = _ask(GLASS, colour=GLASS)
    assert not refused and refuser.asked == []


def test_nuclei_painted_on_glass_are_never_shown_unasked() -> None:
    refused, refuser = _ask(GLASS, colour=_nuclei(12))
    assert refused == ("hallucination",) and refuser.asked == []
    refused, refuser = _ask(GLASS, colour=_nuclei(1))  # the safety case is asked
    assert refused == ("outside",) and len(refuser.asked) == 1
    refused, refuser = _ask(GLASS, colour=np.full_like(GLASS, 225))  # a tint: likewise
    assert refused == ("outside",) and len(refuser.asked) == 1
    assert _ask(GLASS)[0] == ("hallucination",)


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
