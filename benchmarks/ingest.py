"""How fast ingest reads, against peers and against the bounds, in one run on one process.

    .venv/bin/python benchmarks/ingest.py [--data FOLDER] [--repeat N]

FHIR: the whole ingest (read, link, clean, write) and its reader alone, against ``json`` plus R4B
validation of every resource, and against ``orjson`` alone, below which nobody gets. DICOM: the same
against a loop of ``pydicom.dcmread`` (headers, and with pixels), and the decoder alone. Each figure is
the best of N, in processor seconds; ratios are within this run. Data are the licensed samples, or ``--data``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import orjson

from clinimm.config import IngestConfig
from clinimm.core.errors import InputRejected
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.ingest.stage import ingest
from clinimm.modalities import all_modalities
from clinimm.modality import Modality
from clinimm.progress import QUIET
from clinimm.sources.local import LocalSource

_MEGABYTE = 1e6


def best(work: Callable[[], object], repeat: int) -> float:
    """Least processor seconds of ``repeat`` runs: a busy machine disturbs them less than wall time."""
    seconds = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def whole_ingest(root: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rules = IngestConfig(workers=1)
        ingest([LocalSource(root)], all_modalities(), rules, Pseudonymiser(b"0" * 32), Path(folder), QUIET)


def reader_alone(root: Path, modality: Modality, paths: Sequence[Path]) -> None:
    source = LocalSource(root, rules=IngestConfig(validate_fhir="none"))
    wanted = {str(path.relative_to(root)) for path in paths}
    for file in source.files():
        if file.path in wanted:
            try:
                modality.scan(source, file)
            except InputRejected:
                continue


def resources(path: Path, loads: Callable[[bytes], object]) -> Iterator[object]:
    content = path.read_bytes()
    return map(loads, content.splitlines() if path.suffix == ".ndjson" else [content])


def parse_all(paths: Sequence[Path]) -> None:
    for path in paths:
        for _ in resources(path, orjson.loads):
            pass


def json_and_r4b(paths: Sequence[Path]) -> None:
    from clinimm.modalities.ehr.validate import problem_of

    for path in paths:
        for value in resources(path, json.loads):
            assert isinstance(value, dict)
            for entry in value.get("entry", [{"resource": value}]):
                if "resourceType" in entry["resource"]:
                    problem_of(entry["resource"])


def pydicom_loop(paths: Sequence[Path], stop_before_pixels: bool) -> None:
    import pydicom

    for path in paths:
        pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)


def decoder_loop(paths: Sequence[Path]) -> None:
    import pydicom

    for path in paths:
        _ = pydicom.dcmread(path).pixel_array


def table(title: str, unit: str, amount: float, rows: dict[str, float], base: str) -> None:
    print(f"\n{title}")
    for name, seconds in rows.items():
        ratio = rows[base] / seconds
        print(f"  {name:<44} {seconds:8.3f} s  {amount / seconds:9.1f} {unit}  {ratio:7.2f} x {base}")


def fhir(folders: Sequence[Path], repeat: int) -> None:
    ehr = all_modalities()["ehr"]
    for root in folders:
        paths = sorted(path for path in root.rglob("*") if path.suffix in (".json", ".ndjson"))
        size = sum(path.stat().st_size for path in paths) / _MEGABYTE
        json_and_r4b(paths[:1])  # imports
        rows = {
            "json + R4B of everything": best(partial(json_and_r4b, paths), 1),
            "whole ingest": best(partial(whole_ingest, root), repeat),
            "reader alone": best(partial(reader_alone, root, ehr, paths), repeat),
            "orjson alone (bound)": best(partial(parse_all, paths), repeat),
        }
        table(
            f"FHIR, {root.name}: {size:.1f} MB in {len(paths)} files",
            "MB/s",
            size,
            rows,
            "json + R4B of everything",
        )


def dicom(root: Path, repeat: int) -> None:
    radiology = all_modalities()["radiology"]
    paths = sorted(root.rglob("*.dcm"))
    pydicom_loop(paths[:1], True)
    rows = {
        "pydicom, headers": best(lambda: pydicom_loop(paths, True), repeat),
        "pydicom, whole files": best(lambda: pydicom_loop(paths, False), repeat),
        "whole ingest": best(lambda: whole_ingest(root), repeat),
        "reader alone": best(lambda: reader_alone(root, radiology, paths), repeat),
        "pydicom + decoding (bound of the pixels)": best(lambda: decoder_loop(paths), 1),
    }
    table(f"DICOM, {root.parent.name}: {len(paths)} files", "files/s", len(paths), rows, "pydicom, headers")


def main() -> None:
    here = Path(os.environ.get("CLINIMM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=here)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    samples = given.data / "samples" / "fhir"
    folders = [samples / "synthea_r4", samples / "bulk_10_patients", given.data / "ham10000" / "fhir"]
    fhir([folder for folder in folders if folder.is_dir()] or [given.data], given.repeat)
    for root in (given.data / "covid_cxr" / "dicom", given.data / "ham10000" / "dicom"):
        if root.is_dir():
            dicom(root, given.repeat)


if __name__ == "__main__":
    main()
