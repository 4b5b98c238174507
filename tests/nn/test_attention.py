from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from clinimm.core.errors import ModelError
from clinimm.model import FusionModel
from clinimm.nn.attention import CLASSES, LATENTS, TOKENS, Trace
from clinimm.nn.blocks import MaskedAttention
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.tokens import Batch, Tokens
from tests.toy import DIM, toy_modalities, toy_spec


@pytest.fixture
def model() -> FusionModel:
    torch.manual_seed(0)
    with toy_modalities():
        found = FusionModel(toy_spec(("a", "b"), members=2))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return found.eval()


def _batch(rows: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True] * 4, [True] * 3 + [False], [True] + [False] * 3])[:rows]
    return {
        name: Tokens(torch.randn(rows, 4, DIM, generator=generator), mask, torch.zeros(rows, 4))
        for name in ("a", "b")
    }


def test_without_a_trace_the_logits_are_bit_identical_and_with_one_equal_to_rounding(model) -> None:
    """The fused kernel is called with the same arguments as before there were traces."""
    calls = []
    plain = F.scaled_dot_product_attention

    def counted(*args, **kwargs):
        calls.append((len(args), sorted(kwargs)))
        return plain(*args, **kwargs)

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", counted)
        before = model.logits(_batch())
        asked = len(calls)
        traced = model.logits(_batch(), [])
        assert len(calls) == asked > 0, "a trace takes the other path throughout"
        after = model.logits(_batch())
    assert calls == [(3, ["attn_mask", "dropout_p"])] * len(calls)
    assert torch.equal(before, after)
    torch.testing.assert_close(traced, before, atol=1e-5, rtol=1e-5)


def test_noting_the_weights_gives_the_kernels_answer() -> None:
    torch.manual_seed(0)
    attention = MaskedAttention(8, 2, 0.0).eval()
    queries, tokens = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([[True, True, False, True, False], [False] * 5])
    noted: list[torch.Tensor] = []
    found = attention(queries, tokens, mask, noted.append)
    torch.testing.assert_close(found, attention(queries, tokens, mask))
    (weights,) = noted
    assert weights.shape == (2, 2, 3, 6)
    torch.testing.assert_close(weights.sum(3), torch.ones(2, 2, 3))
    assert (weights[0, :, :, 1:][..., ~mask[0]] == 0).all()
    assert (weights[1, :, :, 0] == 1).all(), "who may look at nothing reads the empty key"


def test_a_trace_names_every_attention_of_every_member_in_order(model) -> None:
    traces: list[Trace] = []
    model.logits(_batch(), traces)
    assert len(traces) == 2
    names = [(one.reader, one.read) for one in traces[0].attentions]
    layer = [(LATENTS, TOKENS), (LATENTS, LATENTS)]
    assert names == [*layer, (TOKENS, LATENTS), *layer, (CLASSES, LATENTS)]
    assert traces[0].attentions[0].weights.shape == (3, 2, 4, 1 + 8)


def test_the_weights_are_part_of_the_graph(model) -> None:
    traces: list[Trace] = []
    logit = model.logits(_batch(), traces)[:, 0].sum()
    weights = [one.weights for one in traces[0].attentions]
    gradients = torch.autograd.grad(logit, weights)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_an_encoder_that_does_not_pool_reads_each_token_in_its_place(model) -> None:
    for reading in model.reading(_batch()):
        expected = torch.diag_embed(_batch()["a"].mask.float())
        assert torch.equal(reading["a"], expected)


def test_an_encoder_that_pools_must_say_what_it_read() -> None:
    class Pooling(TokenEncoder):
        pools = True

    with pytest.raises(ModelError, match="does not say"):
        Pooling().reading(_batch()["a"])


def test_one_subject_many_times_over_is_adapted_once_with_the_same_answer(model) -> None:
    batch = {name: tokens.row(0) for name, tokens in _batch().items()}
    hidden = torch.rand(7, 4, generator=torch.Generator().manual_seed(2)) < 0.5
    expanded = {name: tokens.expand(7).with_mask(tokens.mask & ~hidden) for name, tokens in batch.items()}
    copied = {
        name: Tokens(t.values.contiguous(), t.mask.contiguous(), t.time.contiguous())
        for name, t in expanded.items()
    }
    assert all(tokens.repeated for tokens in expanded.values())
    assert not any(tokens.repeated for tokens in copied.values())
    with torch.no_grad():
        torch.testing.assert_close(model.logits(expanded), model.logits(copied), atol=1e-5, rtol=1e-5)


def test_a_row_is_one_subject_without_the_padding_at_its_end() -> None:
    tokens = _batch()["a"]
    assert tokens.row(1).values.shape == (1, 3, DIM)
    assert torch.equal(tokens.row(1).values[0], tokens.values[1, :3])
    empty = tokens.with_mask(torch.zeros_like(tokens.mask)).row(0)
    assert empty.mask.shape == (1, 1)
    assert not empty.mask.any()
