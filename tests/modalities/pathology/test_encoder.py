from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinimm.config import EncoderConfig, ModalityConfig
from clinimm.core.errors import ConfigError
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.core.record import digest_file
from clinimm.modalities import get_modality
from clinimm.modalities.pathology.encoder import build_encoder, encode, fit
from clinimm.modalities.pathology.explain import locate
from clinimm.modalities.pathology.slide import Slide
from clinimm.modality import EncodeContext
from clinimm.nn.image import load_image_encoder
from clinimm.progress import QUIET
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
