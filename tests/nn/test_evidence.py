"""Products of evidence: zero at the start, silent about what is absent, able to show an interaction."""

from __future__ import annotations

import torch

from clinimm.nn.evidence import EvidencePairs


def _inputs(seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    logits = {name: torch.randn(64, 1, generator=draw) for name in ("a", "b", "c")}
    return logits, {name: torch.ones(64, dtype=torch.bool) for name in logits}


def test_it_adds_nothing_before_training() -> None:
    logits, present = _inputs()
    assert not EvidencePairs(tuple(logits), 1)(logits, present).any()


def test_a_pair_of_which_one_is_absent_adds_nothing() -> None:
    logits, present = _inputs()
    pairs = EvidencePairs(tuple(logits), 1).eval()
    with torch.no_grad():
        pairs.weight.fill_(1.0)
    present["a"][:10] = False
    both = EvidencePairs(("b", "c"), 1).eval()
    with torch.no_grad():
        both.weight.fill_(1.0)
    rest = both({"b": logits["b"], "c": logits["c"]}, present)
    torch.testing.assert_close(pairs(logits, present)[:10], rest[:10])
    assert not torch.allclose(pairs(logits, present)[10:], rest[10:])


def test_a_modality_that_the_batch_lacks_is_absent() -> None:
    logits, present = _inputs()
    pairs = EvidencePairs(tuple(logits), 1).eval()
    with torch.no_grad():
        pairs.weight.fill_(1.0)
    nobody = {**present, "a": torch.zeros(64, dtype=torch.bool)}
    without = {name: value for name, value in logits.items() if name != "a"}
    torch.testing.assert_close(pairs(without, present), pairs(logits, nobody))


def test_it_learns_the_sign_of_a_product() -> None:
    logits, present = _inputs()
    target = (logits["a"] * logits["b"] > 0).float()
    pairs = EvidencePairs(tuple(logits), 1)
    optimiser = torch.optim.Adam(pairs.parameters(), lr=3e-2)
    for _ in range(150):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(pairs(logits, present), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    right = (pairs.eval()(logits, present) > 0) == (target > 0.5)
    assert right.float().mean() > 0.9
