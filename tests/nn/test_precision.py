from __future__ import annotations

from typing import Literal

import pytest
import torch

from clinimm.nn import precision


@pytest.mark.parametrize(
    ("asked", "able", "used"),
    [
        ("auto", False, torch.float32),
        ("auto", True, torch.bfloat16),
        ("bfloat16", False, torch.bfloat16),
        ("float32", True, torch.float32),
    ],
)
def test_bfloat16_is_used_where_asked_or_where_the_processor_computes_in_it(
    asked: Literal["auto", "float32", "bfloat16"],
    able: bool,
    used: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: able)
    layer = torch.nn.Linear(2, 2)
    with precision.autocast(asked):
        made = layer(torch.ones(1, 2))
    assert made.dtype == used
