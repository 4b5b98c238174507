import pytest

from clinimm.core.errors import InputRejected
from clinimm.sources.memory import MemorySource


def test_it_lists_reads_and_lends_paths_as_a_folder_does() -> None:
    source = MemorySource({"b/c.txt": b"22", "a.txt": b"1"})
    assert [(file.path, file.size) for file in source.files()] == [("a.txt", 1), ("b/c.txt", 2)]
    assert source.read("b/c.txt") == source.local_path("b/c.txt").read_bytes() == b"22"


def test_changed_content_changes_the_time() -> None:
    (before,) = MemorySource({"a": b"1"}).files()
    (after,) = MemorySource({"a": b"2"}).files()
    assert before.size == after.size
    assert before.modified_ns != after.modified_ns


def test_an_absent_path_is_refused() -> None:
    with pytest.raises(InputRejected, match="absent"):
        MemorySource({}).read("a")
