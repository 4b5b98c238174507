from __future__ import annotations

import torch

from clinimm.nn.stain.contrast import PLACES, PatchProjector


def test_vectors_have_length_one_and_stand_for_the_drawn_places() -> None:
    projector = PatchProjector([4, 8])
    maps = [torch.randn(2, 4, 16, 16), torch.randn(2, 8, 4, 4)]
    places = projector.draw(maps)
    assert [len(chosen) for chosen in places] == [PLACES, 16]
    vectors = projector(maps, places)
    assert [one.shape[:2] for one in vectors] == [(2, PLACES), (2, 16)]
    torch.testing.assert_close(vectors[0].norm(dim=2), torch.ones(2, PLACES))
    other = [level.clone() for level in maps]
    row, column = divmod(int(places[0][3]), 16)
    other[0][:, :, row, column] += 1
    changed = (projector(other, places)[0] - vectors[0]).abs().amax((0, 2)) > 1e-6
    assert changed.nonzero().tolist() == [[3]]
