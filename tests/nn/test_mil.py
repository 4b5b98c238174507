"""Bags of tiles: laws that hold for each encoder, and a problem that the mean cannot solve."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from clinimm.nn.dense import fit_dense
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.mil import BAGS, AttentionBag, BagEncoder, ClusteredBag, GatedAttention, TransformerBag
from clinimm.nn.tokens import Tokens

DIM = 8


def statistics(**more: object) -> dict[str, object]:
    values = torch.randn(200, DIM, generator=torch.Generator().manual_seed(0)).numpy()
    found = fit_dense(3 * values + 1, components=0)
    return {**found, "raw_dim": DIM + 2 * bool(more), **more}


def build(name: str, places: bool = False) -> BagEncoder:
    torch.manual_seed(0)
    return BAGS[name](statistics(places=True) if places else statistics()).eval()


def bags(count: int = 3, tiles: int = 7, dim: int = DIM) -> Tokens:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(count, tiles, dim, generator=generator)
    return Tokens(
        values, torch.ones(count, tiles).bool(), torch.rand(count, tiles, generator=generator) * 100
    )


every = pytest.mark.parametrize("name", BAGS)


@every
def test_the_order_of_tiles_does_not_matter(name: str) -> None:
    network, raw = build(name, places=name == "transformer"), bags(dim=DIM + 2 * (name == "transformer"))
    order = torch.randperm(7)
    mixed = Tokens(raw.values[:, order], raw.mask[:, order], raw.time[:, order])

    found, again = (network(network.embed(one)) for one in (raw, mixed))

    torch.testing.assert_close(found.values, again.values, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.time, again.time)


@every
def test_padding_changes_nothing_and_an_empty_bag_gives_no_token(name: str) -> None:
    network, raw = build(name), bags(1, 5)
    noise = 1e3 * torch.ones(1, 4, DIM)
    values = torch.cat([raw.values, noise], 1).repeat(2, 1, 1)
    mask = torch.zeros(2, 9).bool()
    mask[0, :5] = True
    padded = Tokens(values, mask, F.pad(raw.time, (0, 4)).repeat(2, 1))

    found, whole = (network(network.embed(one)) for one in (padded, raw))

    torch.testing.assert_close(found.values[:1], whole.values, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.time[:1], whole.time)
    assert found.present.tolist() == [True, False]
    assert not found.values[1].any() and found.values.isfinite().all()
    assert whole.time[0].tolist() == [raw.time.min().item()] * network.tokens
    assert whole.values.shape == (1, network.tokens, network.dim)


@every
def test_gradients_are_finite_even_beside_an_empty_bag(name: str) -> None:
    network, raw = build(name).train(), bags(2)
    raw = raw.with_mask(raw.mask & torch.tensor([[True], [False]]))
    embedded = network.embed(raw)
    values = embedded.values.clone().requires_grad_()
    target = torch.tensor([[1.0], [float("nan")]])

    shown = embedded.with_values(values)
    loss = network(shown).values.square().sum()
    extra = network.auxiliary_loss(shown, target)
    (loss if extra is None else loss + extra).backward()

    assert values.grad is not None
    assert values.grad.isfinite().all()
    assert values.grad[0].abs().sum(dim=1).gt(0).all()
    assert not values.grad[1].any()
    used = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert len(used) >= 6 and all(grad.isfinite().all() for grad in used)


def test_gated_attention_is_the_paper_s_formula() -> None:
    torch.manual_seed(0)
    attention = GatedAttention(4, 1)
    h = torch.randn(1, 3, 4)
    scores = []
    for k in range(3):  # equation 9, tile by tile
        inside = torch.tanh(attention.content.weight @ h[0, k] + attention.content.bias)
        gate = torch.sigmoid(attention.gate.weight @ h[0, k] + attention.gate.bias)
        scores.append(attention.score.weight[0] @ (inside * gate) + attention.score.bias[0])
    e = torch.stack(scores).exp()

    torch.testing.assert_close(attention(h, torch.ones(1, 3).bool())[0, 0], e / e.sum())


def test_clam_has_a_branch_a_class_and_its_loss_is_computed_tile_by_tile() -> None:
    network = build("clam")
    assert isinstance(network, ClusteredBag)
    network.expect(2)
    raw = bags(3, 7)
    raw = raw.with_mask(raw.mask & (torch.arange(7) < torch.tensor([[7], [1], [0]])))
    target = torch.tensor([[1.0, 0.0], [1.0, float("nan")], [0.0, 1.0]])
    embedded = network.embed(raw)
    tiles, weights = network.attend(embedded)
    logits = network.instance(tiles)

    losses = []
    for bag, column, label in ((0, 0, 1.0), (0, 1, 0.0), (1, 0, 1.0)):
        count = int(raw.mask[bag].sum())
        order = weights[bag, column, :count].argsort(descending=True)
        for tile in order[: (count + 1) // 2]:
            losses.append(F.binary_cross_entropy_with_logits(logits[bag, tile, column], torch.tensor(label)))
        if label:
            for tile in order.flip(0)[: count // 2]:
                losses.append(
                    F.binary_cross_entropy_with_logits(logits[bag, tile, column], torch.tensor(0.0))
                )
    found = network.auxiliary_loss(embedded, target)

    assert network(embedded).values.shape[1] == 2
    assert found is not None
    torch.testing.assert_close(found, 0.3 * torch.stack(losses).mean())


def test_the_transformer_reads_places_and_attributes_nothing_to_them() -> None:
    network, raw = build("transformer", places=True), bags(1, 6, DIM + 2)
    assert isinstance(network, TransformerBag)
    moved = raw.values.clone()
    moved[..., -2:] += torch.tensor([5.0, 3.0]) * torch.arange(6)[:, None]
    embedded = network.embed(raw)

    with torch.no_grad():
        here, there = (network(network.embed(raw.with_values(v))).values for v in (raw.values, moved))
    assert (here - there).abs().max() > 1e-3
    assert torch.equal(network.baseline(embedded)[..., -2:], embedded.values[..., -2:])
    assert not network.baseline(embedded)[..., :-2].any()
    assert network.summarise(embedded).shape == (1, DIM)


class MeanBag(TokenEncoder):
    """What the bags are compared with: a network on the mean of the tiles."""

    def __init__(self) -> None:
        super().__init__()
        self.standardise = BagEncoder(statistics()).standardise
        self.dim = 64
        self.body = nn.Sequential(nn.Linear(DIM, 64), nn.GELU(), nn.LayerNorm(64))

    def embed(self, raw: Tokens) -> Tokens:
        return raw.with_values(self.standardise(raw.values) * raw.mask.unsqueeze(-1))

    def forward(self, embedded: Tokens) -> Tokens:
        values = self.body(self.summarise(embedded))[:, None]
        return Tokens(values, embedded.present[:, None], embedded.time[:, :1])


def witness_bags(count: int, seed: int, tiles: int = 24) -> tuple[Tokens, Tensor]:
    """Two odd tiles a bag: in a positive one both signs agree in each, in a negative one they do not.

    Their mean is the same in both, so nothing is left of it in the mean over the bag.
    """
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, tiles, DIM, generator=generator)
    label = torch.arange(count) % 2
    sign = torch.where(label == 1, 1.0, -1.0)
    for tile, one in ((0, 1.0), (1, -1.0)):
        values[:, tile, 0] = 3 * one
        values[:, tile, 1] = 3 * one * sign
    return Tokens(3 * values + 1, torch.ones(count, tiles).bool(), torch.zeros(count, tiles)), label.float()


def held_out_auroc(network: TokenEncoder, seed: int = 0, steps: int = 120) -> float:
    torch.manual_seed(seed)
    head = nn.Linear(network.dim, 1)
    optimiser = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=3e-3, weight_decay=1e-2)
    raw, label = witness_bags(400, seed=1)

    def logit(bag: Tokens) -> Tensor:
        return head(network(bag).values.mean(1))[:, 0]

    network.train()
    for _ in range(steps):
        rows = torch.randperm(len(label))[:32]
        bag = network.embed(Tokens(raw.values[rows], raw.mask[rows], raw.time[rows]))
        loss = F.binary_cross_entropy_with_logits(logit(bag), label[rows])
        extra = network.auxiliary_loss(bag, label[rows, None])
        optimiser.zero_grad()
        (loss if extra is None else loss + extra).backward()
        optimiser.step()
    network.eval()
    raw, label = witness_bags(400, seed=2)
    with torch.no_grad():
        return float(roc_auc_score(label, logit(network.embed(raw))))


@pytest.fixture(scope="module")
def mean_pooling() -> float:
    torch.manual_seed(0)
    return held_out_auroc(MeanBag())


@every
def test_witness_tiles_are_found_where_the_mean_of_tiles_is_blind(name: str, mean_pooling: float) -> None:
    torch.manual_seed(0)
    found = held_out_auroc(BAGS[name](statistics()))

    print(f"held-out AUROC, n = 400 bags: {name} {found:.3f}, mean pooling {mean_pooling:.3f}")
    assert found > 0.9
    assert mean_pooling < 0.65


def test_attention_ends_on_the_witnesses() -> None:
    torch.manual_seed(0)
    network = AttentionBag(statistics())
    held_out_auroc(network)
    raw, _ = witness_bags(50, seed=3)
    with torch.no_grad():
        _, weights = network.attend(network.embed(raw))
    on_witnesses = weights[:, :, :2].sum(2).amax(1).mean()
    assert on_witnesses > 0.5  # two of 24 tiles: 0.08 by chance
