from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from clinimm.config import EncoderConfig, ModalityConfig
from clinimm.core.errors import ConfigError
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.core.record import digest_file
from clinimm.modalities import get_modality
from clinimm.modalities.pathology.encoder import build_encoder, encode, fit, tensorise
from clinimm.modalities.pathology.explain import locate
from clinimm.modalities.pathology.slide import Slide
from clinimm.modality import EncodeContext
from clinimm.nn.image import load_image_encoder
from clinimm.nn.mil import BAGS
from clinimm.progress import QUIET
from clinimm.simulate.slide import plan_slide, render_slide
from clinimm.sources.base import Opener
from clinimm.sources.local import LocalSource
from clinimm.testing import check_modality

SIDE = 64


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory, make_slide: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    make_slide(folder / "stated.tiff", side=512)
    make_slide(folder / "unstated.tiff", side=512, mpp_um=None)
    return folder


def context(slides: Path, cache: Path, **options: Any) -> EncodeContext:
    encoder = EncoderConfig(options={"size": SIDE, "max_tiles": 4, **options})
    opener = Opener((LocalSource(slides),), Pseudonymiser(b"0" * 16))
    return EncodeContext(ModalityConfig(encoder=encoder), opener, cache, 8, QUIET)


def events(slides: Path, use: EncodeContext, *names: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "subject_id": f"s{i}",
                "time_hours": 5.0,
                "code": "SLIDE//HE",
                "uri": use.opener.seal(0, f"{name}.tiff"),
                "digest": digest_file(slides / f"{name}.tiff"),
            }
            for i, name in enumerate(names)
        ]
    )


def test_a_tile_is_one_token_and_locate_leads_back_to_it(slides: Path, tmp_path: Path) -> None:
    use = context(slides, tmp_path)
    found = encode(events(slides, use, "stated"), use)
    network = load_image_encoder(None, 0, SIDE)

    assert found.values.shape == (4, 1280)
    for row, value in zip(found.tokens.to_dict("records"), found.values, strict=True):
        place = locate(row, 0)
        left, top, right, bottom = (int(edge) for edge in place.box)
        with Slide(slides / "stated.tiff") as slide:
            tile = slide.read((left, top, right, bottom), SIDE)
        maps = network.features(tile.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        np.testing.assert_allclose(value, maps.astype(np.float32).mean((0, 2, 3)), atol=5e-3)
        assert (place.kind, place.digest, place.time_hours) == ("tile", row["digest"], 5.0)
        # The tissue of this slide is the square in its middle.
        assert 128 - SIDE < left < 384
        assert 128 - SIDE < top < 384
        assert right - left == SIDE


def test_a_slide_without_a_resolution_is_listed_and_stating_it_helps(slides: Path, tmp_path: Path) -> None:
    use = context(slides, tmp_path)
    found = encode(events(slides, use, "stated", "unstated"), use)
    stated = context(slides, tmp_path, mpp_um=0.5)

    assert [refusal.code for refusal in found.refusals] == ["no-resolution"]
    assert found.tokens["subject_id"].unique().tolist() == ["s0"]
    assert len(encode(events(slides, stated, "unstated"), stated).tokens) == 4


def test_cached_tokens_are_the_same_and_a_changed_parameter_is_a_miss(slides: Path, tmp_path: Path) -> None:
    use, finer = context(slides, tmp_path), context(slides, tmp_path, tile_mpp_um=0.25)
    first, again = (encode(events(slides, use, "stated"), use) for _ in range(2))

    np.testing.assert_array_equal(first.values, again.values)
    assert (first.counts["cache_hits"], again.counts["cache_hits"]) == (0, 1)
    assert encode(events(slides, finer, "stated"), finer).counts["cache_hits"] == 0
    assert build_encoder(use.config, fit(first, use.config)).dim == 1280


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ({"options": {"tiles": 3}}, "tiles is unknown; known are components, max_tiles"),
        ({"options": {"max_tiles": 600}}, "expected 1 to max_tokens, which is 512"),
        ({"fine_tune_blocks": 1}, "must be 0"),
        ({"options": {"mil": "clamp"}}, "mil is 'clamp'; known are none, abmil, clam, transformer"),
        ({"options": {"quality": "yes"}}, "expected true or false"),
        ({"options": {"stain_normalisation": "khan"}}, "known are none, macenko, vahadane, reinhard"),
    ],
)
def test_errors_name_what_is_known(tmp_path: Path, encoder: dict[str, Any], words: str) -> None:
    config = ModalityConfig.model_validate({"encoder": encoder})
    use = EncodeContext(config, Opener((), Pseudonymiser(b"0" * 16)), tmp_path, 8, QUIET)
    with pytest.raises(ConfigError, match=words):
        encode(pd.DataFrame(), use)


def test_it_keeps_the_contract(slides: Path, tmp_path: Path) -> None:
    content = (slides / "stated.tiff").read_bytes()
    files = {f"slides/{patient}/block.tiff": content for patient in ("MRN1", "MRN2")}
    encoder = EncoderConfig(options={"size": SIDE, "max_tiles": 2})

    check_modality(get_modality("pathology"), files, tmp_path, ModalityConfig(encoder=encoder))


@pytest.fixture(scope="module")
def stained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated slides of 0.5 mm: one sharp, one whose right half is out of focus."""
    folder = tmp_path_factory.mktemp("stained")
    rgb = render_slide(plan_slide(True, 1024, np.random.default_rng(1))).rgb
    half = rgb.copy()
    half[:, 512:] = ndimage.gaussian_filter(half[:, 512:], (8, 8, 0))
    for name, picture in (("sharp", rgb), ("half", half)):
        tifffile.imwrite(folder / f"{name}.tiff", picture, tile=(256, 256), photometric="rgb",
                         compression="zlib", resolution=(2e4, 2e4), resolutionunit="CENTIMETER")  # fmt: skip
    return folder


def test_stain_normalisation_changes_tokens_and_is_part_of_the_identity(
    stained: Path, tmp_path: Path
) -> None:
    found = {}
    for method in ("none", "macenko", "vahadane", "reinhard"):
        use = context(stained, tmp_path, stain_normalisation=method)
        found[method] = encode(events(stained, use, "sharp"), use)
        assert found[method].counts["cache_hits"] == 0
        assert found[method].counts.get("stain_unchanged") == (None if method == "none" else 0)
    values = [one.values.astype(np.float32) for one in found.values()]
    assert all(np.abs(one - two).max() > 1e-2 for one, two in combinations(values, 2))


def test_a_slide_whose_stains_cannot_be_told_is_encoded_as_it_is_and_counted(
    slides: Path, tmp_path: Path
) -> None:
    plain, use = context(slides, tmp_path), context(slides, tmp_path, stain_normalisation="macenko")
    expected = encode(events(slides, plain, "stated"), plain)
    for _ in range(2):  # the second time from the cache
        found = encode(events(slides, use, "stated"), use)
        np.testing.assert_array_equal(found.values, expected.values)
        assert (found.counts["stain_unchanged"], found.counts["stain_unchanged_one-stain"]) == (1, 1)


def test_quality_leaves_out_tiles_without_focus_and_counts_them(stained: Path, tmp_path: Path) -> None:
    options = {"size": 128, "max_tiles": 32}
    plain, use = (context(stained, tmp_path, **options, quality=quality) for quality in (False, True))
    every, found = (encode(events(stained, one, "half", "sharp"), one) for one in (plain, use))

    half = found.tokens[found.tokens["subject_id"] == "s0"]
    sharp = [one.tokens[one.tokens["subject_id"] == "s1"] for one in (every, found)]
    assert (half["left"] < 512).all() and len(half) >= 5
    assert len(sharp[1]) >= 0.9 * len(sharp[0])
    assert found.counts["tiles_left_out_blur"] == found.counts["tiles_left_out"] > 5
    assert "tiles_left_out" not in every.counts


def test_a_slide_of_nothing_but_faults_is_listed(stained: Path, tmp_path: Path) -> None:
    picture = ndimage.gaussian_filter(tifffile.imread(stained / "sharp.tiff"), (10, 10, 0))
    tifffile.imwrite(tmp_path / "soft.tiff", picture, tile=(256, 256), photometric="rgb",
                     resolution=(2e4, 2e4), resolutionunit="CENTIMETER")  # fmt: skip
    use = context(tmp_path, tmp_path / "cache", size=128, quality=True)
    found = encode(events(tmp_path, use, "soft"), use)
    assert [refusal.code for refusal in found.refusals] == ["no-usable-tissue"]


@pytest.mark.parametrize("mil", ["abmil", "clam", "transformer"])
def test_bags_keep_the_contract_and_use_the_same_cached_tokens(
    slides: Path, tmp_path: Path, mil: str
) -> None:
    content = (slides / "stated.tiff").read_bytes()
    files = {f"slides/{patient}/block.tiff": content for patient in ("MRN1", "MRN2")}
    encoder = EncoderConfig(options={"size": SIDE, "max_tiles": 3, "mil": mil})
    check_modality(get_modality("pathology"), files, tmp_path, ModalityConfig(encoder=encoder))

    plain, use = context(slides, tmp_path / "c"), context(slides, tmp_path / "c", mil=mil)
    encode(events(slides, plain, "stated"), plain)
    found = encode(events(slides, use, "stated"), use)
    assert found.counts["cache_hits"] == 1
    network = build_encoder(use.config, json.loads(json.dumps(fit(found, use.config))))
    assert isinstance(network, BAGS[mil])  # type: ignore[arg-type]


def test_places_count_in_tiles_from_the_middle_of_the_slide(slides: Path, tmp_path: Path) -> None:
    use = context(slides, tmp_path, mil="transformer")
    found = encode(events(slides, use, "stated"), use)
    statistics = fit(found, use.config)
    raw = tensorise(found, statistics)

    assert raw.shape == (len(found.tokens), statistics["raw_dim"]) == (4, 1282)
    np.testing.assert_array_equal(raw[:, :-2], found.values.astype(np.float32))
    np.testing.assert_allclose(raw[:, -2:].mean(axis=0), 0, atol=1e-6)
    left = found.tokens["left"].to_numpy()
    np.testing.assert_allclose(np.diff(raw[:, -2]), np.diff(left) / SIDE, atol=1e-5)
    assert tensorise(found, fit(found, context(slides, tmp_path).config)).shape == (4, 1280)


def test_places_are_stated_in_micrometres(slides: Path, tmp_path: Path) -> None:
    use = context(slides, tmp_path)
    row = encode(events(slides, use, "stated"), use).tokens.iloc[0]
    assert row["left_um"] == pytest.approx(row["left"] * 0.5)
    assert f"x {row['left_um']:.0f} to {row['right_um']:.0f} µm" in locate(row.to_dict(), 0).text
