"""A token leads back to a rectangle in micrometres and in level-0 pixels."""

from __future__ import annotations

from typing import Any

from clinimm.modalities.pathology.explain import locate

_ROW: dict[str, Any] = {"tile": 3, "digest": "ab", "tissue": 0.5, "time_hours": 2.0} | {
    "left": 100, "top": 200, "right": 300, "bottom": 400
}  # fmt: skip


def test_a_rectangle_in_micrometres_and_the_box_in_pixels() -> None:
    um = {"left_um": 25.0, "top_um": 50.0, "right_um": 75.0, "bottom_um": 100.0}
    place = locate(_ROW | um, 0)
    assert place.box == (100.0, 200.0, 300.0, 400.0) and place.kind == "tile"
    assert place.text == "tile 3 at x 25 to 75 µm, y 50 to 100 µm, 50% tissue"


def test_tokens_without_micrometres_are_located_in_pixels() -> None:
    assert locate(_ROW, 0).text == "tile 3 at 100, 200, 50% tissue"
    assert locate(_ROW | {"left_um": float("nan")}, 0).text == "tile 3 at 100, 200, 50% tissue"
