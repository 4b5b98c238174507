from pathlib import Path

import numpy as np
import pytest

from clinimm.core.errors import DataError
from clinimm.staining.landmarks import read_landmarks


def test_points_are_read_in_the_columns_order_whatever_theirs(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("name,target_y_um,target_x_um,source_x_um,source_y_um\na,4,3,1,2\n", encoding="utf-8-sig")
    source, target = read_landmarks(path)
    np.testing.assert_array_equal(source, [[1, 2]])
    np.testing.assert_array_equal(target, [[3, 4]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source_x_um,source_y_um\n1,2\n", "target_x_um, target_y_um are missing"),
        ("source_x_um,source_y_um,target_x_um,target_y_um\n", "no landmark"),
        ("source_x_um,source_y_um,target_x_um,target_y_um\n1,2,3,x\n", "line 2: target_y_um is 'x'"),
        ("source_x_um,source_y_um,target_x_um,target_y_um\n1,2,3\n", "line 2: target_y_um is None"),
        ("source_x_um,source_y_um,target_x_um,target_y_um\n1,2,3,nan\n", "expected a number"),
        ("", "are missing"),
    ],
)
def test_a_bad_table_is_refused_by_line_and_column(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_landmarks(path)


def test_a_missing_table_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="FileNotFoundError"):
        read_landmarks(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="cannot be read"):
        read_landmarks(tmp_path / "binary.csv")
