from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import PolynomialFeatures

from clinimm.config import StainingConfig
from clinimm.core.errors import DataError, ModelError
from clinimm.corpus import Corpus
from clinimm.staining import context, train_stainer
from clinimm.staining.context import ContextData, ContextSpec
from clinimm.staining.pairs import StainPair
from clinimm.staining.stainer import Stainer
from tests.staining.toy_stain import draw_pair
from tests.toy import toy_modalities, toy_modality, toy_spec, toy_table

QUICK = {
    "members": 1,
    "width": 8,
    "levels": 3,
    "crop_pixels": 32,
    "crops_per_step": 4,
    "steps": 6,
    "check_every": 2,
    "patience": 9,
    "perceptual_weight": 0.0,
    "sampler_steps": 2,
}
TRAINING = [draw_pair(f"s{seed}", seed, 64, ("CK", "KI67")) for seed in range(3)]
TUNING = [draw_pair("t0", 100, 64, ("CK", "KI67"))]


def train(
    training: list[StainPair] = TRAINING,
    tuning: list[StainPair] = TUNING,
    seed: int = 0,
    records: ContextData | None = None,
    folder: Path | None = None,
    **changes: object,
) -> Stainer:
    config = StainingConfig(**{**QUICK, **changes})  # type: ignore[arg-type]
    return train_stainer.train_stainer(training, tuning, config, seed, records, folder=folder)


def tensors(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


@torch.no_grad()
def error_of(stainer: Stainer, pairs: list[StainPair], stain: str = "KI67") -> float:
    errors = []
    for pair in pairs:
        made = stainer(tensors(pair.source), stainer.stain_index(stain)).colour
        errors.append(float((made - tensors(pair.targets[stain])).abs().mean()))
    return float(np.mean(errors))


@pytest.mark.slow
def test_nuclei_that_turn_brown_by_their_size_beat_quadratic_regression_held_out() -> None:
    training = [draw_pair(f"s{seed}", seed) for seed in range(8)]
    tuning = [draw_pair(f"t{seed}", 100 + seed) for seed in range(2)]
    held_out = [draw_pair(f"h{seed}", 200 + seed) for seed in range(3)]
    stainer = train(
        training, tuning, width=16, crop_pixels=64, crops_per_step=8, steps=160, check_every=40,
        learning_rate=1e-2,
    )  # fmt: skip
    terms = PolynomialFeatures(2)
    source = np.concatenate([pair.source.reshape(-1, 3) for pair in training]) / 255
    target = np.concatenate([pair.targets["KI67"].reshape(-1, 3) for pair in training]) / 255
    regression = LinearRegression().fit(terms.fit_transform(source[::7]), target[::7])
    baseline = np.mean(
        [
            np.abs(
                regression.predict(terms.transform(pair.source.reshape(-1, 3) / 255))
                - pair.targets["KI67"].reshape(-1, 3) / 255
            ).mean()
            for pair in held_out
        ]
    )
    assert error_of(stainer, held_out) < 0.6 * baseline
    # Brown where the nuclei are large, and not where they are small: colour alone cannot say.
    pair = held_out[0]
    with torch.no_grad():
        stained = stainer(tensors(pair.source), stainer.stain_index("KI67"))
    blue = stained.colour[0, 2].numpy() * 255
    truth = pair.targets["KI67"][..., 2].astype(float)
    nuclei = pair.source[..., 0] < 160
    assert np.corrcoef(blue[nuclei], truth[nuclei])[0, 1] > 0.8
    # And the expected error is about what is observed.
    expected = float(stained.uncertainty.mean())
    assert 0.5 < expected / error_of(stainer, [pair]) < 2


@pytest.mark.parametrize("name", ["unet", "pix2pix", "vae", pytest.param("flow", marks=pytest.mark.slow)])
def test_each_paired_sibling_learns_one_tiny_pair_by_heart(name: str) -> None:
    pair = [draw_pair("s0", 3, 48)]
    start = train(pair, [], generator=name, steps=1, check_every=1, learning_rate=1e-9)
    stainer = train(
        pair,
        [],
        generator=name,
        steps=300 if name == "flow" else 160,
        check_every=300,
        learning_rate=1e-2,
        width=16,
    )
    assert error_of(stainer, pair) < 0.7 * error_of(start, pair)


@pytest.mark.parametrize("name", ["cyclegan", "cut"])
def test_each_unpaired_sibling_brings_its_own_loss_down(name: str) -> None:
    stainer = train(generator=name, steps=40, check_every=10, learning_rate=3e-3)
    losses = [row["training_loss"] for row in stainer.history]
    assert losses[-1] < 0.8 * losses[0]
    # Where nothing got better the transfer of colours was kept: means agree without any pairing.
    pair = TRAINING[0]
    with torch.no_grad():
        made = stainer(tensors(pair.source), stainer.stain_index("KI67")).colour
    target = tensors(pair.targets["KI67"])
    copied = (tensors(pair.source).mean((2, 3)) - target.mean((2, 3))).abs().max()
    assert (made.mean((2, 3)) - target.mean((2, 3))).abs().max() < 0.3 * copied


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second, other = train(seed=4), train(seed=4), train(seed=5)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    weights = [one.generator().encoder.levels[0][0][0].weight for one in (first, other)]  # type: ignore
    assert not torch.equal(*weights)


def test_it_is_never_worse_on_tuning_pairs_than_where_it_starts() -> None:
    start = train(steps=1, check_every=1, learning_rate=1e-12)
    harmed = train(learning_rate=1.0, steps=4)
    assert error_of(harmed, TUNING) <= error_of(start, TUNING) + 1e-6


def test_it_stops_when_tuning_pairs_gain_nothing() -> None:
    stainer = train(learning_rate=1.0, steps=20, check_every=1, patience=2)
    assert 2 <= len(stainer.history) < 20


class KilledError(Exception):
    """Stands for the end of the process."""


def test_a_killed_training_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, object] = {"members": 2, "learning_rate": 1e-2, "steps": 6, "check_every": 2}
    whole = train(**settings)
    checkpoint = train_stainer.Checkpoint
    monkeypatch.setattr(train_stainer, "Checkpoint", lambda folder: checkpoint(folder, every_seconds=0.0))
    step, calls = train_stainer._step, iter(range(100))

    def die(*arguments: object) -> float:
        if next(calls) == 9:  # the fourth step of the second member
            raise KilledError
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(train_stainer, "_step", die)
    with pytest.raises(KilledError):
        train(folder=tmp_path, **settings)
    counted = []
    monkeypatch.setattr(
        train_stainer,
        "_step",
        lambda *arguments: counted.append(1) or step(*arguments),  # type: ignore
    )
    resumed = train(folder=tmp_path, **settings)
    assert len(counted) == 4  # two looks of the second member; the first member was done
    assert resumed.history == whole.history
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_members_see_other_subjects_and_differ() -> None:
    stainer = train(members=2)
    first, second = stainer.generator(0), stainer.generator(1)
    assert not torch.equal(first.encoder.levels[0][0][0].weight, second.encoder.levels[0][0][0].weight)  # type: ignore
    draws = {tuple(train_stainer._bootstrap(tuple("abcdef"), 3, seed)) for seed in (0, 1_000, 2_000)}
    assert len(draws) == 3
    assert train_stainer._bootstrap(("a", "b"), 1, 0) == ["a", "b"]


def test_a_training_that_diverges_is_a_named_error() -> None:
    with pytest.raises(ModelError, match="training diverged before step"):
        train(learning_rate=1e30, steps=20, check_every=10)


def test_generated_pairs_are_refused_unless_told_otherwise_and_the_stainer_says_so() -> None:
    made = [draw_pair("s0", 0, 64, synthetic=True)]
    with pytest.raises(DataError, match="marked as generated"):
        train(made, [])
    assert train(made, [], allow_synthetic_input=True, steps=1).spec.provenance["trained_on_synthetic"]
    assert not train(steps=1).spec.provenance["trained_on_synthetic"]


def test_the_history_has_a_row_a_look() -> None:
    stainer = train()
    assert stainer.history[-1]["step"] == 6
    assert {row["member"] for row in stainer.history} == {0}
    assert all(np.isfinite(row["tuning_loss"]) for row in stainer.history)


def test_the_record_decides_where_the_pixels_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fact of the record says whether a subject's large nuclei turn brown or stay blue."""
    subjects = [f"s{index}" for index in range(8)]
    fact = np.array([1.5, -1.5] * 4)
    pairs = []
    for index, subject in enumerate(subjects):
        pair = draw_pair(subject, index, 48, ("CK", "KI67"))
        target = pair.targets["KI67"] if fact[index] > 0 else pair.targets["CK"]
        pairs.append(StainPair(subject, "block", pair.source, {"KI67": target}, pair.valid, 0.5))
    monkeypatch.setattr(context, "get_modality", lambda name, plugins=(): toy_modality(name))
    with toy_modalities():
        model = toy_spec(("a",), width=16, modality_dropout=0.0, dropout=0.0)
        spec = ContextSpec(model.model, model.modalities, model.statistics, model.plugins)
        records = ContextData(Corpus({"a": toy_table(subjects, fact, 1)}), spec)
        stainer = train(pairs, [], records=records, steps=500, check_every=500, learning_rate=1e-2)
        source = tensors(pairs[0].source)
        stain = stainer.stain_index("KI67")
        with torch.no_grad():
            yes, no, unknown = (
                stainer(source, stain, stainer.read_context(records.batch([subject]))).colour
                for subject in ("s2", "s3", "nobody")
            )
            alone = stainer(source, stain).colour
    assert torch.equal(unknown, alone)
    truth = tensors(pairs[0].targets["KI67"])
    assert (yes - truth).abs().mean() < 0.75 * (no - truth).abs().mean()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
