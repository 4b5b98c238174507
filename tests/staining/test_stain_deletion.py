from __future__ import annotations

from scipy.ndimage import gaussian_filter

from clinimm.staining.explain_stain import explain_stain
from clinimm.staining.optical import Signal
from clinimm.staining.stain_deletion import delete
from tests.staining.explain_toy import REGION, RESOLUTION_UM, DabToy, draw_record, draw_source


def test_a_faithful_order_beats_random_ones_and_nearness() -> None:
    source = draw_source(1)
    source[:, 32:] = gaussian_filter(source[:, 32:], (9, 9, 0))  # little to say, though near
    toy, record = DabToy(halo=16), draw_record()
    found = explain_stain(toy, source, REGION, Signal.DAB, RESOLUTION_UM, record)
    checked = delete(toy, source, found, Signal.DAB, RESOLUTION_UM, record)
    assert checked.auc < checked.auc_random
    assert checked.auc < checked.auc_nearest
    assert delete(toy, source, found, Signal.DAB, RESOLUTION_UM, record) == checked
