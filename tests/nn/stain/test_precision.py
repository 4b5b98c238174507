from __future__ import annotations

import pytest
import torch

from clinimm.nn.stain import precision


@pytest.mark.parametrize("able", [False, True])
def test_bfloat16_is_used_where_the_processor_computes_in_it(
    able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: able)
    layer = torch.nn.Linear(2, 2)
    with precision.autocast():
        made = layer(torch.ones(1, 2))
    assert made.dtype == (torch.bfloat16 if able else torch.float32)
