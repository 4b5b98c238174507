import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.core.errors import InputRejected
from clinimm.modalities.ehr import json_files
from clinimm.modalities.ehr.json_files import MAX_DEPTH, check_depth, is_ndjson, read_lines
from clinimm.sources.local import LocalSource

_VALUES: Any = st.recursive(
    st.text(alphabet='a{}[]"\\'),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("{["), inner, max_size=2),
)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


@settings(deadline=None, max_examples=60)
@given(_VALUES, st.integers(0, 40))
def test_brackets_in_strings_do_not_count(value: Any, wraps: int) -> None:
    for _ in range(wraps):
        value = [value]
    text = json.dumps(value).encode()
    if _depth(value) > MAX_DEPTH:
        assert json_files._exact_depth(text) == _depth(value)
    else:
        check_depth(text)


def test_a_large_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "_STREAM_ABOVE_BYTES", 0)
    monkeypatch.setattr(json_files, "_BLOCK_BYTES", 7)
    (tmp_path / "a.ndjson").write_bytes(b"".join(b'{"n": %d}\n' % n for n in range(50)))
    source = LocalSource(tmp_path)
    read = list(read_lines(source, next(source.files())))
    assert read == [(n + 1, {"n": n}) for n in range(50)]


def test_a_bomb_in_one_line_refuses_that_line() -> None:
    from clinimm.sources.memory import MemorySource

    source = MemorySource({"a.ndjson": b'{"n": 1}\n' + b"[" * 50 + b"]" * 50 + b'\n{"n": 2}'})
    values = [value for _, value in read_lines(source, next(source.files()))]
    assert values[::2] == [{"n": 1}, {"n": 2}]
    assert isinstance(values[1], InputRejected)
    assert values[1].code == "nested-too-deep"


def test_ndjson_is_told_from_indented_json() -> None:
    assert is_ndjson("a.ndjson", b"")
    assert is_ndjson("a.json", b'{"a": 1}\n{"a": 2}')
    assert not is_ndjson("a.json", b'{\n  "a": {}\n}')
    assert not is_ndjson("a.json", b'{"a": 1}\n')
