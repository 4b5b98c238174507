from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clinimm.core.attribution import LOCALISATION_COLUMNS
from clinimm.core.errors import ConfigError
from clinimm.explain.findings import load_findings, localisation

#: A picture of 4 by 4 cells of 10 pixels.
CELLS = [[x, y, x + 10, y + 10] for y in range(0, 40, 10) for x in range(0, 40, 10)]


def _map(digest: str, strongest: int, score: float, modality: str = "radiology") -> pd.DataFrame:
    scores = np.where(np.arange(16) == strongest, score, 0.1)
    return pd.DataFrame(
        {
            "subject_id": "s1",
            "task": "t",
            "class_name": "c",
            "method": "m",
            "model_digest": "d",
            "modality": modality,
            "digest": digest,
            "kind": "pixels",
            "box": [json.dumps(cell) for cell in CELLS],
            "score": scores,
        }
    )


BOXES = {"film": np.array([[10.0, 10, 20, 20]])}


def test_the_strongest_cell_counts_whichever_way_it_speaks() -> None:
    for score in (3.0, -3.0):
        found = localisation(_map("film", 5, score), BOXES).iloc[0]
        assert bool(found["hit"])
        assert found["leaning"] == np.sign(score)
        assert found["mass_inside"] == pytest.approx(3 / 4.5)
        assert (found["size"], found["area"], found["findings"]) == ("large", 1 / 16, 1)


def test_a_map_whose_strongest_cell_lies_elsewhere_misses() -> None:
    found = localisation(_map("film", 0, -3.0), BOXES).iloc[0]
    assert not found["hit"]
    assert found["hit_by_chance"] == 1 / 16


def test_pictures_without_a_finding_and_files_of_several_frames_have_no_row() -> None:
    other = _map("other", 5, 3.0)
    frames = pd.concat([_map("film", 5, 3.0)] * 2)
    found = localisation(pd.concat([other, frames]), BOXES)
    assert len(found) == 0
    assert list(found.columns) == list(LOCALISATION_COLUMNS)


def test_each_subject_has_its_own_row_where_two_share_a_file() -> None:
    one, two = _map("film", 5, 3.0), _map("film", 0, 3.0).assign(subject_id="s2")
    found = localisation(pd.concat([one, two]), BOXES)
    assert found.set_index("subject_id")["hit"].to_dict() == {"s1": True, "s2": False}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_findings_of_a_file_come_together(tmp_path: Path, ending: str) -> None:
    table = pd.DataFrame(
        {"digest": ["a", "b", "a"], "left": [0, 1, 2], "top": 0, "right": [5, 6, 7], "bottom": 4, "note": "x"}
    )
    path = tmp_path / f"findings.{ending}"
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    found = load_findings(path)
    assert found["a"].tolist() == [[0, 0, 5, 4], [2, 0, 7, 4]]
    assert found["b"].tolist() == [[1, 0, 6, 4]]


def test_a_table_that_is_none_or_lacks_a_column_or_an_area_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "findings.csv"
    with pytest.raises(ConfigError, match="cannot be read"):
        load_findings(path)
    path.write_text("digest,left,top,right\na,0,0,1\n")
    with pytest.raises(ConfigError, match="lacks bottom"):
        load_findings(path)
    path.write_text("digest,left,top,right,bottom\na,0,0,0,1\n")
    with pytest.raises(ConfigError, match="no area"):
        load_findings(path)
