from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.core.errors import ModelError
from clinimm.model import FusionModel
from clinimm.nn.tokens import Batch, Tokens
from tests.toy import DIM, toy_modalities, toy_spec


@pytest.fixture(autouse=True)
def _toy() -> Iterator[None]:
    with toy_modalities():
        yield


def batch_of(counts: dict[str, list[int]], seed: int = 0, padding: int = 0) -> Batch:
    """Random tokens; ``counts`` says how many each subject has of each modality."""
    made = {}
    for number, (name, lengths) in enumerate(counts.items()):
        draw = torch.Generator().manual_seed(seed + number)
        longest = max(1, *lengths)
        values = torch.randn(len(lengths), longest, DIM, generator=draw)
        hours = 100 * torch.rand(len(lengths), longest, generator=draw)
        mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
        if padding:
            values = torch.nn.functional.pad(values, (0, 0, 0, padding), value=7.0)
            mask = torch.nn.functional.pad(mask, (0, padding), value=False)
            hours = torch.nn.functional.pad(hours, (0, padding), value=3.0)
        made[name] = Tokens(values, mask, hours)
    return made


def ready(members: int = 1, **model: object) -> FusionModel:
    """A model whose read-out is not zero, so that the fusion matters."""
    torch.manual_seed(3)
    built = FusionModel(toy_spec(("a", "b"), members=members, **model)).eval()
    with torch.no_grad():
        for member in built.members:
            member.head.weight.normal_()
            member.head.bias.normal_()
    return built


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=5), st.integers(1, 5))
def test_padding_changes_nothing(lengths: list[int], padding: int) -> None:
    model = ready()
    counts = {"a": lengths, "b": lengths[::-1]}
    with torch.no_grad():
        plain, padded = model(batch_of(counts)), model(batch_of(counts, padding=padding))
    torch.testing.assert_close(plain, padded, atol=1e-5, rtol=1e-5)


def test_a_batch_equals_one_by_one() -> None:
    model = ready()
    batch = batch_of({"a": [3, 0, 2], "b": [1, 2, 0]})
    with torch.no_grad():
        together = model(batch)
        alone = [
            model({n: Tokens(t.values[[i]], t.mask[[i]], t.time[[i]]) for n, t in batch.items()})
            for i in range(3)
        ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_an_absent_modality_is_the_same_as_leaving_it_out() -> None:
    model = ready()
    batch = batch_of({"a": [2, 3], "b": [0, 0]})
    with torch.no_grad():
        torch.testing.assert_close(model(batch), model({"a": batch["a"]}), atol=1e-5, rtol=1e-5)


def test_a_subject_without_any_token_gets_the_same_finite_prior_as_another() -> None:
    model = ready()
    with torch.no_grad():
        logits = model(batch_of({"a": [0, 0], "b": [0, 0]}))
    assert torch.isfinite(logits).all()
    assert logits[0] == logits[1]


def test_hidden_values_are_not_read() -> None:
    model = ready()
    batch = batch_of({"a": [2, 1], "b": [1, 1]})
    other = batch["a"].values.clone()
    other[1, 1] = 1e3
    with torch.no_grad():
        assert torch.equal(model(batch), model({**batch, "a": batch["a"].with_values(other)}))


def test_time_reaches_the_answer() -> None:
    model = ready()
    batch = batch_of({"a": [2, 2], "b": [1, 1]})
    late = Tokens(batch["a"].values, batch["a"].mask, batch["a"].time + 5000)
    with torch.no_grad():
        assert not torch.allclose(model(batch), model({**batch, "a": late}))


def test_members_are_averaged_as_logits() -> None:
    model = ready(members=3)
    batch = batch_of({"a": [2, 3], "b": [1, 2]})
    with torch.no_grad():
        each = [member.answer(member.embed(batch)).fused for member in model.members]
        torch.testing.assert_close(model(batch), torch.stack(each).mean(0))


def test_baseline_tokens_have_the_shape_of_the_embedded_ones() -> None:
    model = ready(members=2)
    embedded = model.embed(batch_of({"a": [2, 3], "b": [1, 2]}))
    for name, tokens in model.baseline(embedded).items():
        assert tokens.values.shape == embedded[name].values.shape


def test_from_pretrained_inverts_save_pretrained(tmp_path: Path) -> None:
    model = ready(members=2)
    model.slope.fill_(1.5)
    digest = model.save_pretrained(tmp_path)
    loaded = FusionModel.from_pretrained(tmp_path)
    batch = batch_of({"a": [2, 3], "b": [1, 0]})
    with torch.no_grad():
        assert torch.equal(model(batch), loaded(batch))
    assert loaded.digest == digest
    assert loaded.spec == model.spec


def test_the_digest_changes_with_a_weight(tmp_path: Path) -> None:
    model = ready()
    before = model.save_pretrained(tmp_path)
    with torch.no_grad():
        model.intercept.add_(1e-3)
    assert model.save_pretrained(tmp_path) != before


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    ready().save_pretrained(tmp_path / "one")
    ready(width=32).save_pretrained(tmp_path / "two")
    (tmp_path / "two" / "model.safetensors").rename(tmp_path / "one" / "model.safetensors")
    with pytest.raises(ModelError, match="does not fit"):
        FusionModel.from_pretrained(tmp_path / "one")


def test_a_truncated_config_is_a_named_error(tmp_path: Path) -> None:
    ready().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        FusionModel.from_pretrained(tmp_path)


def test_a_batch_without_a_known_modality_is_a_named_error() -> None:
    with pytest.raises(ModelError, match="none of the model's modalities"):
        ready()(batch_of({"c": [1]}))


def test_gradients_reach_the_embedded_tokens() -> None:
    model = ready()
    embedded = model.embed(batch_of({"a": [2], "b": [2]}))
    values = embedded["a"].values.clone().requires_grad_()
    model.logits({**embedded, "a": embedded["a"].with_values(values)}).sum().backward()
    assert values.grad is not None
    assert float(values.grad.abs().sum()) > 0
    assert np.isfinite(values.grad.numpy()).all()
