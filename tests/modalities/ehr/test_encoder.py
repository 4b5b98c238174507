from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from clinimm.config import EncoderConfig, ModalityConfig
from clinimm.core.errors import ConfigError
from clinimm.modalities import get_modality
from clinimm.modalities.ehr.encoder import EventEncoder, build_encoder
from clinimm.modalities.ehr.explain import locate
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.tokens import Tokens
from clinimm.testing import check_modality

STATISTICS = {"vocabulary": {f"code{i}": i + 1 for i in range(5)}, "centre": {}, "scale": {}}


def encoder(**options: object) -> TokenEncoder:
    torch.manual_seed(0)
    return build_encoder(
        ModalityConfig(encoder=EncoderConfig(options={"dim": 16, **options})), STATISTICS
    ).eval()


def tokens(count: int, padding: int = 0) -> Tokens:
    drawn = torch.Generator().manual_seed(1)
    values = torch.stack(
        [
            torch.randint(0, 6, (1, count), generator=drawn).float(),
            torch.randn(1, count, generator=drawn),
            torch.randint(0, 2, (1, count), generator=drawn).float(),
        ],
        dim=-1,
    )
    time = torch.rand(1, count, generator=drawn) * 100
    junk = torch.tensor([[[3.0, 4.0, 1.0]]]).repeat(1, padding, 1)
    mask = torch.arange(count + padding)[None] < count
    return Tokens(torch.cat([values, junk], 1), mask, torch.cat([time, 7 * torch.ones(1, padding)], 1))


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_padding_changes_nothing(layers: int) -> None:
    network = encoder(layers=layers)

    alone = network(network.embed(tokens(4)))
    padded = network(network.embed(tokens(4, padding=3)))

    torch.testing.assert_close(padded.values[:, :4], alone.values)
    assert (padded.values[:, 4:] == 0).all()
    assert alone.dim == network.dim == 16


def test_a_subject_without_facts_gives_zeros_not_nan() -> None:
    network = encoder()
    found = network(network.embed(tokens(0, padding=2)))

    assert (found.values == 0).all()


def test_a_fact_is_embedded_alone_and_contextualised_together() -> None:
    network = encoder(layers=1)
    whole, changed = tokens(3), tokens(3)
    changed.values[0, 2] = torch.tensor([1.0, 4.0, 1.0])

    one, other = network.embed(whole), network.embed(changed)

    torch.testing.assert_close(one.values[:, :2], other.values[:, :2])
    assert not torch.allclose(network(one).values[:, :2], network(other).values[:, :2])


def test_the_value_matters_only_where_there_is_one_and_is_piecewise_linear() -> None:
    network = encoder(layers=0)

    def embedded(z: float, has_value: float) -> torch.Tensor:
        raw = Tokens(torch.tensor([[[2.0, z, has_value]]]), torch.ones(1, 1).bool(), torch.zeros(1, 1))
        return network.embed(raw).values[0, 0]

    torch.testing.assert_close(embedded(1.0, 0.0), embedded(3.0, 0.0))
    assert not torch.allclose(embedded(1.0, 1.0), embedded(3.0, 1.0))
    torch.testing.assert_close(embedded(1.5, 1.0), (embedded(1.2, 1.0) + embedded(1.8, 1.0)) / 2)
    torch.testing.assert_close(embedded(5.0, 1.0), embedded(50.0, 1.0))


def test_the_baseline_is_the_unknown_fact_and_training_meets_it() -> None:
    network = encoder(code_dropout=1.0, layers=0)
    assert isinstance(network, EventEncoder)
    raw = tokens(3, padding=1)

    lost = network.train().embed(raw)

    torch.testing.assert_close(network.baseline(lost), lost.values)
    assert not torch.allclose(network.eval().embed(raw).values, lost.values)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "bert"}, "known is events"),
        ({"options": {"widht": 3}}, "widht is unknown; known are code_dropout, dim"),
        ({"options": {"dim": 10, "heads": 4}}, "not divisible"),
    ],
)
def test_errors_name_what_is_known(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_encoder(ModalityConfig.model_validate({"encoder": settings}), STATISTICS)


def test_locate_names_the_fact() -> None:
    row = {
        "code": "LOINC//2160-0",
        "numeric_value": 1.9,
        "unit": "mg/dL",
        "text_value": None,
        "time_hours": 3.0,
    }

    place = locate(row, 0)

    assert (place.kind, place.text, place.time_hours, place.box) == (
        "event",
        "LOINC//2160-0 = 1.9 mg/dL",
        3.0,
        (),
    )


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {
                "resource": {
                    "resourceType": "Observation",
                    "id": f"o{i}",
                    "status": "final",
                    "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5"}]},
                    "subject": {"reference": f"Patient/p{i % 2}"},
                    "issued": f"2024-03-0{i + 1}T10:00:00Z",
                    "valueQuantity": {"value": 37 + i, "system": "http://unitsofmeasure.org", "code": "Cel"},
                }
            }
            for i in range(4)
        ],
    }

    found = check_modality(get_modality("ehr"), {"bundle.json": json.dumps(bundle).encode()}, tmp_path)

    assert sorted(found.tokens["numeric_value"]) == [37.0, 38.0, 39.0, 40.0]
