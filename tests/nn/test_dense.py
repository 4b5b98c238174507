from __future__ import annotations

import json

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from clinimm.nn.dense import DenseEncoder, fit_dense, pack, unpack
from clinimm.nn.tokens import Tokens

VALUES = np.random.default_rng(0).normal(3, 2, (300, 8)) @ np.random.default_rng(1).normal(size=(8, 8))


def embedded(values: np.ndarray, components: int) -> np.ndarray:
    statistics = json.loads(json.dumps(fit_dense(VALUES, components)))
    raw = Tokens(
        torch.from_numpy(values.astype(np.float32))[None],
        torch.ones(1, len(values)).bool(),
        torch.zeros(1, len(values)),
    )
    return DenseEncoder(statistics).embed(raw).values[0].numpy()


def test_without_components_it_is_the_standard_scaler() -> None:
    np.testing.assert_allclose(embedded(VALUES, 0), StandardScaler().fit_transform(VALUES), atol=1e-4)


def test_components_span_what_pca_finds_on_one_common_scale() -> None:
    reference = PCA(3).fit(VALUES)
    expected = reference.transform(VALUES)
    scale = np.sqrt(expected.var(axis=0).mean())

    found = embedded(VALUES, 3)

    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected / scale, atol=1e-3)


def test_more_components_than_rows_allow_are_cut() -> None:
    assert fit_dense(VALUES[:4], 8)["dim"] == 3
    assert fit_dense(VALUES[:0], 0)["dim"] == 8


def test_a_channel_that_hardly_varies_is_not_blown_up() -> None:
    values = VALUES.copy()
    values[:, 0] = 5.0
    values[0, 0] = 5.0001

    statistics = fit_dense(values, 0)

    scale = unpack(statistics["scale"], (8,))
    assert scale[0] >= 0.09 * np.median(values.std(axis=0))


def test_padding_stays_zero_and_changes_nothing() -> None:
    encoder = DenseEncoder(fit_dense(VALUES, 0))
    values = torch.from_numpy(VALUES[:4].astype(np.float32))[None]
    mask = torch.tensor([[True, True, False, False]])

    padded = encoder.embed(Tokens(values, mask, torch.zeros(1, 4))).values
    alone = encoder.embed(Tokens(values[:, :2], mask[:, :2], torch.zeros(1, 2))).values

    torch.testing.assert_close(padded[:, :2], alone)
    assert (padded[:, 2:] == 0).all()


def test_pack_keeps_float32() -> None:
    array = np.random.default_rng(2).normal(size=(3, 2)).astype(np.float32)

    np.testing.assert_array_equal(unpack(pack(array), (3, 2)), array)
