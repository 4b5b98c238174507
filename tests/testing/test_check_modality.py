from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clinimm.core.attribution import Place
from clinimm.core.errors import ConfigError
from clinimm.modalities import all_modalities, get_modality
from clinimm.modality import Encoded, Modality, Scan
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.tokens import Tokens
from clinimm.testing import ContractBrokenError, check_modality
from tests.outside_ecg import MODALITY
from tests.outside_ecg.samples import recording

FILES = {
    "a/1.ecg": recording("MRN1", "2024-03-01T10:00:00+00:00", 1),
    "a/2.ecg": recording("MRN1", "2024-03-02T10:00:00+00:00", 2),
    "b.ecg": recording("MRN2", "2024-03-01T12:00:00+01:00", 3, amplitude=2.0),
}


def test_a_pipeline_finds_an_outside_modality_by_its_module() -> None:
    found = get_modality("ecg", plugins=("tests.outside_ecg",))

    assert found is MODALITY
    assert list(all_modalities(("tests.outside_ecg",))) == ["ehr", "notes", "radiology", "pathology", "ecg"]
    with pytest.raises(ConfigError, match="ecg"):
        get_modality("ecg")


def test_the_outside_modality_keeps_the_contract(tmp_path: Path) -> None:
    encoded = check_modality(MODALITY, FILES, tmp_path)

    assert encoded.tokens.groupby("subject_id").size().tolist() in ([8, 4], [4, 8])


Break = Callable[[Modality], Modality]


def wrap(**changes: Callable[..., Any]) -> Break:
    return lambda modality: replace(modality, **changes)


def later(events: pd.DataFrame, context: Any) -> Encoded:
    found = MODALITY.encode(events, context)
    return replace(found, tokens=found.tokens.assign(time_hours=-1.0))


def depends_on_others(events: pd.DataFrame, context: Any) -> Encoded:
    found = MODALITY.encode(events, context)
    return replace(found, values=found.values - found.values.mean(axis=0))


def depends_on_order(events: pd.DataFrame, context: Any) -> Encoded:
    found = MODALITY.encode(events, context)
    return replace(found, tokens=found.tokens.assign(seen_first=events["digest"].iloc[0]))


def stops_at_a_missing_file(events: pd.DataFrame, context: Any) -> Encoded:
    return replace(MODALITY.encode(events, context), refusals=())


class Mixing(TokenEncoder):
    dim = 5

    def forward(self, embedded: Tokens) -> Tokens:
        return embedded.with_values(embedded.values - embedded.values.mean(1, keepdim=True))


class Lying(TokenEncoder):
    dim = 7


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (wrap(accepts=lambda path, head: False), "accepts refuses"),
        (
            wrap(accepts=lambda path, head: True, scan=lambda source, file: Scan()),
            "no sample file gave a fact",
        ),
        (wrap(encode=later), "later than the index time"),
        (wrap(encode=depends_on_others), "depend on other subjects"),
        (wrap(encode=depends_on_order), "order of the events"),
        (wrap(encode=stops_at_a_missing_file), "gone is not refused"),
        (wrap(fit=lambda encoded, config: {"mean": encoded.values}), "not JSON"),
        (wrap(tensorise=lambda encoded, statistics: encoded.values[:1]), "tensorise gives shape"),
        (wrap(build_encoder=lambda config, statistics: Mixing()), "padding changes"),
        (wrap(build_encoder=lambda config, statistics: Lying()), "forward gives shape"),
        (wrap(locate=lambda row, cell: Place("wave", None, (), "x", 0.0)), "kind 'wave'"),
        (lambda modality: replace(modality, name="My ECG"), "no identifier"),
    ],
)
def test_a_broken_modality_is_told_what_is_wrong(tmp_path: Path, broken: Break, law: str) -> None:
    with pytest.raises(ContractBrokenError, match=law):
        check_modality(broken(MODALITY), FILES, tmp_path)


def test_a_reader_that_stumbles_over_damage_is_told(tmp_path: Path) -> None:
    def careless(source: Any, file: Any) -> Scan:
        assert source.read(file.path).endswith(FILES[file.path][-5:])
        return MODALITY.scan(source, file)

    with pytest.raises(ContractBrokenError, match="expected InputRejected"):
        check_modality(replace(MODALITY, scan=careless), FILES, tmp_path)
