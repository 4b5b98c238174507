"""Stain normalisation: known mixtures are taken apart, and what cannot be told is left as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clinimm.core.errors import ConfigError
from clinimm.modalities.pathology import stains
from clinimm.modalities.pathology.macenko import macenko_vectors
from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.stain_space import HAEMATOXYLIN_EOSIN, WHITE, angle_degrees, optical_density
from clinimm.modalities.pathology.stains import Separated, Unchanged, fit_normaliser, fit_slide, glass_of
from clinimm.modalities.pathology.tissue import tissue_mask
from clinimm.modalities.pathology.vahadane import vahadane_vectors
from clinimm.simulate.slide import plan_slide, render_slide

SEPARATING = ("macenko", "vahadane")
ALL = (*SEPARATING, "reinhard")


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def drawn_vectors(seed: int) -> np.ndarray:
    """Haematoxylin and eosin of another laboratory: some degrees away from the textbook's."""
    turned = HAEMATOXYLIN_EOSIN + np.random.default_rng(seed).normal(0, 0.06, (2, 3))
    return unit(np.abs(turned))


def mixture(vectors: np.ndarray, seed: int, count: int = 12_000, noise: float = 2.0) -> np.ndarray:
    """(count, 3) uint8: nuclei with a little eosin, and eosin with hardly any haematoxylin."""
    generator = np.random.default_rng(seed)
    nucleus = generator.random(count) < 0.3
    haematoxylin = np.where(nucleus, generator.gamma(6, 0.12, count), generator.gamma(1, 0.02, count))
    eosin = generator.gamma(6, 0.08, count) * np.where(nucleus, 0.15, 1)
    clean = WHITE * 10 ** -(np.stack([haematoxylin, eosin], 1) @ vectors)
    return np.clip(np.rint(clean + generator.normal(0, noise, clean.shape)), 0, 255).astype(np.uint8)


def one_stain(row: int, noise: float, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    clean = WHITE * 10 ** -(generator.gamma(6, 0.07, (12_000, 1)) * unit(HAEMATOXYLIN_EOSIN)[row])
    return np.clip(np.rint(clean + generator.normal(0, noise, clean.shape)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("method", SEPARATING)
def test_known_vectors_are_found_in_order(method: str) -> None:
    errors = []
    for seed in range(10):
        vectors = drawn_vectors(seed)
        found = fit_normaliser(mixture(vectors, seed), method)
        assert isinstance(found, Separated)
        errors.append([angle_degrees(found.vectors[stain], vectors[stain]) for stain in (0, 1)])
    mean, worst = np.mean(errors, axis=0), np.max(errors, axis=0)
    print(f"{method}, n = 10 mixtures: error of H {mean[0]:.1f} (worst {worst[0]:.1f}), "
          f"of E {mean[1]:.1f} (worst {worst[1]:.1f}) degrees")  # fmt: skip
    assert (worst < 4).all()


def test_vahadane_s_factors_are_those_of_scikit_learn() -> None:
    from sklearn.decomposition import DictionaryLearning

    density = optical_density(mixture(drawn_vectors(3), 3, count=1500))
    density = density[(density > 0.065).all(1)]
    scaled = density / np.linalg.norm(density, axis=1).mean()
    start = unit(HAEMATOXYLIN_EOSIN)
    solver = DictionaryLearning(
        2, alpha=0.1, max_iter=300, tol=1e-9, fit_algorithm="cd", transform_algorithm="lasso_cd",
        positive_code=True, positive_dict=True, dict_init=start,
        code_init=np.maximum(scaled @ np.linalg.pinv(start), 0), random_state=0,
    )  # fmt: skip
    expected = solver.fit(scaled).components_
    found = vahadane_vectors(density)
    assert max(angle_degrees(found[row], expected[row]) for row in (0, 1)) < 0.3


def test_macenko_on_a_plane_finds_its_corners() -> None:
    corners = drawn_vectors(1)
    share = np.linspace(0, 1, 2001)[:, None]
    density = (share * corners[0] + (1 - share) * corners[1]) * np.linspace(0.3, 1, 2001)[::-1, None]
    found = macenko_vectors(density)
    assert max(angle_degrees(found[row], corners[row]) for row in (0, 1)) < 0.5


@pytest.mark.parametrize("method", ALL)
def test_the_same_seed_gives_the_same_normaliser(method: str) -> None:
    pixels = mixture(drawn_vectors(0), 0, count=40_000)
    one, two, other = (fit_normaliser(pixels, method, seed=seed) for seed in (0, 0, 1))
    sample = pixels[:500].reshape(20, 25, 3)
    np.testing.assert_array_equal(one.apply(sample), two.apply(sample))
    assert np.abs(one.apply(sample).astype(int) - other.apply(sample)).mean() < 3


@pytest.mark.parametrize("method", ALL)
def test_slides_of_two_laboratories_come_closer(method: str) -> None:
    """The same tissue in two stainings: after normalisation its colours differ less."""
    amount = np.random.default_rng(5)
    eosin = amount.gamma(6, 0.07, (100, 120))
    haematoxylin = np.where(amount.random((100, 120)) < 0.3, amount.gamma(6, 0.12, (100, 120)), 0.01)
    pictures = []
    for vectors, strength in ((drawn_vectors(7), 0.8), (drawn_vectors(8), 1.3)):
        density = np.stack([haematoxylin, eosin], -1) @ vectors * strength
        pictures.append(np.rint(WHITE * 10**-density).astype(np.uint8))

    after = [fit_normaliser(one.reshape(-1, 3), method).apply(one).astype(float) for one in pictures]

    before = np.abs(pictures[0].astype(float) - pictures[1]).mean()
    assert np.abs(after[0] - after[1]).mean() < (0.7 if method == "reinhard" else 0.5) * before


@pytest.mark.parametrize("method", ALL)
def test_a_tile_looks_the_same_whatever_is_cut_around_it(method: str) -> None:
    rgb = render_slide(plan_slide(True, 256, np.random.default_rng(0))).rgb
    found = fit_normaliser(rgb[tissue_mask(rgb)], method)
    assert not isinstance(found, Unchanged)
    whole = found.apply(rgb)
    np.testing.assert_array_equal(whole[64:128, 32:200], found.apply(rgb[64:128, 32:200]))
    glass = np.full((4, 4, 3), 245, np.uint8)
    assert np.abs(found.apply(glass).astype(int) - 245).max() <= 1


def test_what_is_separated_is_what_was_mixed() -> None:
    vectors = drawn_vectors(2)
    found = fit_normaliser(mixture(vectors, 2), "macenko")
    assert isinstance(found, Separated)
    amount = np.random.default_rng(0).uniform(0, 0.6, (30, 30, 2))
    rgb = np.rint(WHITE * 10 ** -(amount @ vectors)).astype(np.uint8)
    for stain in (0, 1):
        assert np.corrcoef(found.separate(rgb)[..., stain].ravel(), amount[..., stain].ravel())[0, 1] > 0.98


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize(
    ("pixels", "code"),
    [
        (np.full((5000, 3), 244, np.uint8), "few-pixels"),
        (np.zeros((0, 3), np.uint8), "few-pixels"),
        (np.full((5000, 3), (200, 120, 170), np.uint8), "one-stain"),
    ],
)
def test_background_and_a_single_colour_are_left_as_they_are(
    method: str, pixels: np.ndarray, code: str
) -> None:
    found = fit_normaliser(pixels, method)
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert isinstance(found, Unchanged)
    assert (found.code, bool(found.reason)) == (code, True)
    np.testing.assert_array_equal(found.apply(picture), picture)


@pytest.mark.parametrize("method", SEPARATING)
@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("noise", [0.0, 2.0, 4.0])
def test_one_stain_is_not_taken_for_two(method: str, row: int, noise: float) -> None:
    found = fit_normaliser(one_stain(row, noise), method)
    assert isinstance(found, Unchanged)
    assert found.code == "one-stain"


@pytest.mark.parametrize(
    ("raised", "code"), [(np.linalg.LinAlgError("no convergence"), "no-solution"), (None, "not-finite")]
)
def test_a_solver_that_fails_is_a_flag_and_no_error(
    monkeypatch: pytest.MonkeyPatch, raised: Exception | None, code: str
) -> None:
    def broken(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if raised:
            raise raised
        return np.full(3, np.nan), np.full((3, 3), np.nan)

    pixels = mixture(drawn_vectors(0), 0)
    monkeypatch.setattr(np.linalg, "eigh", broken)
    found = fit_normaliser(pixels, "macenko")
    assert isinstance(found, Unchanged)
    assert found.code == code


def test_an_unknown_method_names_the_known() -> None:
    with pytest.raises(ConfigError, match="known are none, macenko, vahadane, reinhard"):
        fit_normaliser(np.zeros((0, 3), np.uint8), "khan")
    assert isinstance(fit_normaliser(np.zeros((0, 3), np.uint8), "none"), Unchanged)
    assert {"few-pixels", "one-stain", "not-finite", "no-solution"} == set(stains.REASONS) - {""}


def test_glass_is_the_slide_s_own_and_not_the_scanner_s_filling() -> None:
    overview = np.full((100, 100, 3), 255, np.uint8)
    overview[:50] = (241, 236, 239)
    overview[40:60, 20:60] = (190, 110, 170)
    np.testing.assert_array_equal(glass_of(overview), [241, 236, 239])
    np.testing.assert_array_equal(glass_of(np.zeros((9, 9, 3), np.uint8)), WHITE)


def test_a_real_slide_is_separated_and_a_pale_tile_is_not(test_data: Path) -> None:
    with Slide(test_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        for method in SEPARATING:
            found = fit_slide(slide, method)
            assert isinstance(found, Separated)
            errors = [angle_degrees(found.vectors[row], HAEMATOXYLIN_EOSIN[row]) for row in (0, 1)]
            assert max(errors) < 15, method
    white = np.asarray(Image.open(test_data / "slides/tiles/almost-white-1.png").convert("RGB"))
    failed = fit_normaliser(white.reshape(-1, 3), "macenko")
    assert isinstance(failed, Unchanged) and failed.code == "few-pixels"
