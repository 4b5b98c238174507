from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from clinimm.config import EncoderConfig, ModalityConfig
from clinimm.core.errors import ConfigError
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.core.record import digest_bytes
from clinimm.modalities import get_modality
from clinimm.modalities.radiology.encoder import build_encoder, cell_areas, cell_boxes, encode, fit
from clinimm.modalities.radiology.explain import locate
from clinimm.modalities.radiology.pixels import load_pixels
from clinimm.modalities.radiology.transform import fit_mapping, to_model_input
from clinimm.modality import EncodeContext
from clinimm.nn.image import load_image_encoder
from clinimm.nn.tokens import Tokens
from clinimm.progress import QUIET
from clinimm.sources.base import Opener
from clinimm.sources.memory import MemorySource
from clinimm.testing import check_modality

MakeDicom = Callable[..., bytes]


@pytest.fixture(scope="module")
def films(make_dicom: MakeDicom) -> MemorySource:
    draw = np.random.default_rng(0)
    content = {
        f"{name}.dcm": make_dicom(draw.integers(0, 4096, shape).astype(np.uint16), SOPInstanceUID=f"1.2.{i}")
        for i, (name, shape) in enumerate({"tall": (96, 48), "square": (64, 64), "old": (64, 64)}.items())
    }
    return MemorySource({**content, "torn.dcm": content["tall.dcm"][:-500]})


def context(source: MemorySource, folder: Path, **settings: Any) -> EncodeContext:
    options = {"size": 64, **settings.pop("options", {})}
    encoder = EncoderConfig(options=options, **settings.pop("encoder", {}))
    opener = Opener((source,), Pseudonymiser(b"0" * 16))
    return EncodeContext(ModalityConfig(encoder=encoder, **settings), opener, folder, 2, QUIET)


def events(source: MemorySource, context: EncodeContext, *rows: tuple[str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "subject_id": subject,
                "time_hours": hours,
                "code": "DICOM//DX",
                "uri": context.opener.seal(0, f"{name}.dcm"),
                "digest": digest_bytes(source.content.get(f"{name}.dcm", b"")),
                "attributes": json.dumps({"view": "PA"}),
            }
            for subject, name, hours in rows
        ]
    )


def test_a_row_is_one_cell_of_the_map(films: MemorySource, tmp_path: Path) -> None:
    use = context(films, tmp_path)
    found = encode(events(films, use, ("a", "square", 3.0)), use)
    pixels, _ = to_model_input(load_pixels(films.content["square.dcm"]), 64)
    expected = load_image_encoder(None, 0, 64).features(pixels[None])[0]

    assert found.values.shape == (4, 1280)
    for row, value in zip(found.tokens.to_dict("records"), found.values, strict=True):
        across, down = int(row["left"]) // 32, int(row["top"]) // 32
        np.testing.assert_allclose(value, expected[:, down, across], atol=5e-3)


def test_the_boxes_of_all_cells_tile_the_original() -> None:
    for width, height in ((512, 405), (48, 96), (64, 64)):
        boxes = cell_boxes(fit_mapping(width, height, 224, "pad"), (7, 7), 224)

        assert cell_areas(boxes).sum() == pytest.approx(width * height, rel=1e-4)
        assert boxes[:, 0].min() == boxes[:, 1].min() == 0
        assert (boxes[:, 2].max(), boxes[:, 3].max()) == (width, height)


def test_cells_of_padding_alone_are_left_out(films: MemorySource, tmp_path: Path) -> None:
    use = context(films, tmp_path, options={"size": 128})
    found = encode(events(films, use, ("a", "tall", 3.0)), use)

    # 48 x 96 pixels in a square of 128 with 4 x 4 cells: only the middle two columns hold any.
    assert found.tokens["cell"].tolist() == [1, 2, 5, 6, 9, 10, 13, 14]
    assert found.tokens["right"].max() == 48


def test_locate_comes_back_to_the_pixels(films: MemorySource, tmp_path: Path) -> None:
    frozen, tuned = context(films, tmp_path), context(films, tmp_path, encoder={"fine_tune_blocks": 1})
    one = encode(events(films, frozen, ("a", "square", 3.0)), frozen).tokens
    other = encode(events(films, tuned, ("a", "square", 3.0)), tuned).tokens

    places = [locate(row, 0) for row in one.to_dict("records")]

    assert len(other) == 1
    for cell, place in enumerate(places):
        assert locate(other.iloc[0].to_dict(), cell).box == pytest.approx(place.box)
        assert (place.kind, place.time_hours) == ("pixels", 3.0)
        assert place.digest == digest_bytes(films.content["square.dcm"])
        assert place.text.startswith("DX PA")


def test_a_damaged_or_absent_film_is_listed_and_the_others_go_on(films: MemorySource, tmp_path: Path) -> None:
    use = context(films, tmp_path)
    rows = events(films, use, ("a", "torn", 1.0), ("b", "absent", 1.0), ("c", "square", 1.0))

    found = encode(rows, use)

    assert found.tokens["subject_id"].unique().tolist() == ["c"]
    assert sorted(refusal.file for refusal in found.refusals) == sorted(rows["digest"].iloc[:2])
    assert found.counts["cache_misses"] == 3
    assert encode(rows, use).counts["cache_hits"] == 1


def test_a_changed_parameter_is_encoded_anew(films: MemorySource, tmp_path: Path) -> None:
    def hits(**settings: Any) -> int:
        use = context(films, tmp_path, **settings)
        return encode(events(films, use, ("a", "square", 1.0)), use).counts["cache_hits"]

    assert [hits(), hits()] == [0, 1]
    assert hits(options={"size": 96}) == 0
    assert hits(options={"fit": "stretch"}) == 0
    assert hits(encoder={"fine_tune_blocks": 1}) == 0
    assert hits(encoder={"fine_tune_blocks": 1}, options={"augment": "flips"}) == 0
    assert hits(options={"components": 2}) == 1  # what is learned later does not touch the tokens


def test_whole_pictures_are_kept_the_most_recent_first(films: MemorySource, tmp_path: Path) -> None:
    use = context(films, tmp_path, max_tokens=7)
    found = encode(events(films, use, ("a", "old", 90.0), ("a", "square", 1.0)), use)

    assert found.tokens["time_hours"].tolist() == [1.0] * 4
    assert found.counts["beyond_max_tokens"] == 1
    with pytest.raises(ConfigError, match="one picture gives 4 tokens"):
        encode(events(films, use, ("a", "old", 9.0)), context(films, tmp_path, max_tokens=3))


def test_the_order_of_files_does_not_matter(films: MemorySource, tmp_path: Path) -> None:
    use = context(films, tmp_path)
    rows = events(films, use, ("b", "old", 90.0), ("a", "tall", 1.0), ("a", "square", 1.0))

    one, other = encode(rows, use), encode(rows.iloc[::-1], use)

    pd.testing.assert_frame_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.values, other.values)


def test_several_frames_of_a_volume(make_dicom: MakeDicom, tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 4096, (9, 64, 64)).astype(np.uint16)
    grey = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PlanarConfiguration": None}
    content = make_dicom(volume, Rows=64, Columns=64, NumberOfFrames=9, **grey)
    source = MemorySource({"volume.dcm": content})
    use = context(source, tmp_path, options={"frames": 3})

    found = encode(events(source, use, ("a", "volume", 1.0)), use)

    assert found.tokens["frame"].tolist() == [1] * 4 + [4] * 4 + [7] * 4
    assert not np.array_equal(found.values[:4], found.values[4:8])


def test_frozen_and_fine_tuned_agree_before_training(films: MemorySource, tmp_path: Path) -> None:
    embedded = []
    for blocks in (0, 1):
        use = context(films, tmp_path, encoder={"fine_tune_blocks": blocks})
        found = encode(events(films, use, ("a", "square", 1.0), ("b", "old", 1.0)), use)
        statistics = json.loads(json.dumps(fit(found, use.config)))
        network = build_encoder(use.config, statistics).eval()
        raw = torch.from_numpy(found.values.reshape(2, len(found.values) // 2, -1).astype(np.float32))
        tokens = network.embed(Tokens(raw, torch.ones(raw.shape[:2]).bool(), torch.zeros(raw.shape[:2])))
        assert statistics["raw_dim"] == raw.shape[2]
        assert tokens.values.shape == (2, 4, network.dim)
        assert network.cells == (4 if blocks else 1)
        embedded.append(tokens.values.detach())

    torch.testing.assert_close(*embedded, atol=0.1, rtol=0.05)


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ({"options": {"sise": 3}}, "sise is unknown; known are augment, components"),
        ({"options": {"augment": "flips"}}, "needs fine_tune_blocks"),
        ({"options": {"augment": "jitter"}, "fine_tune_blocks": 1}, "known are none, flips, dihedral"),
        ({"options": {"fit": "crop"}}, "known are pad, stretch"),
        ({"options": {"frames": 0}}, "at least 1"),
        ({"options": {"test_time": "best"}}, "known are first, mean"),
    ],
)
def test_errors_name_what_is_known(encoder: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fit(None, ModalityConfig.model_validate({"encoder": encoder}))  # type: ignore[arg-type]  # never read


@pytest.mark.parametrize("blocks", [0, 1])
def test_it_keeps_the_contract(make_dicom: MakeDicom, tmp_path: Path, blocks: int) -> None:
    draw = np.random.default_rng(0)
    files = {
        f"{i}.dcm": make_dicom(
            draw.integers(0, 4096, (64, 48)).astype(np.uint16), PatientID=f"MRN{i}", SOPInstanceUID=f"1.2.{i}"
        )
        for i in range(2)
    }
    encoder = EncoderConfig(options={"size": 64}, fine_tune_blocks=blocks)

    check_modality(get_modality("radiology"), files, tmp_path, ModalityConfig(encoder=encoder))
