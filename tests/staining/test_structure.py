import numpy as np
import pytest
from skimage.color import rgb2hed

from clinimm.core.errors import InputRejected
from clinimm.staining.structure import fit_scale, is_dark_field, structure, tissue_of
from tests.staining.registration_toy import as_fluorescence, toy


def test_he_and_immunostain_of_a_section_give_the_same_structure() -> None:
    pair = toy(shift_um=(0.0, 0.0), degrees=0.0, bend_um=0.0)
    views = [structure(image, fit_scale(image)) for image in (pair.source, pair.target)]
    grey = [image.mean(axis=-1) for image in (pair.source, pair.target)]
    alike = float(np.corrcoef(views[0].ravel(), views[1].ravel())[0, 1])
    assert alike > 0.8
    assert alike > np.corrcoef(grey[0].ravel(), grey[1].ravel())[0, 1] + 0.1


def test_structure_goes_with_haematoxylin_of_scikit_image() -> None:
    image = toy().source
    view = structure(image, fit_scale(image))
    assert np.corrcoef(view.ravel(), rgb2hed(image)[..., 0].ravel())[0, 1] > 0.9


def test_fluorescence_has_nuclei_bright_as_glass_has() -> None:
    image = toy().source
    dark = as_fluorescence(image)
    assert is_dark_field(dark)
    assert not is_dark_field(image)
    one, other = structure(image, fit_scale(image)), structure(dark, fit_scale(dark))
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.8


def test_a_part_has_the_structure_that_it_has_in_the_whole() -> None:
    image = toy().source
    scale = fit_scale(image)
    np.testing.assert_array_equal(
        structure(image[50:90, 60:200], scale), structure(image, scale)[50:90, 60:200]
    )


@pytest.mark.parametrize("brightness", [0, 3, 128, 240, 255])
def test_a_picture_without_contrast_is_refused(brightness: int) -> None:
    noise = np.random.default_rng(0).integers(-2, 3, (200, 200, 3))
    blank = np.clip(brightness + noise, 0, 255).astype(np.uint8)
    with pytest.raises(InputRejected) as refusal:
        fit_scale(blank)
    assert refusal.value.code == "no-tissue"


def test_a_speck_on_a_slide_is_no_tissue() -> None:
    image = np.full((500, 500, 3), 245, dtype=np.uint8)
    image[:40, :40] = (90, 60, 120)
    speck = structure(image, fit_scale(image)) * 0
    speck[10, 10] = 1
    with pytest.raises(InputRejected, match="no-tissue"):
        tissue_of(speck, 0.5)


def test_black_margins_that_were_never_scanned_are_background() -> None:
    image = toy().source.copy()
    image[:, :120] = 0
    view = structure(image, fit_scale(image))
    assert view[:, :120].max() == 0
