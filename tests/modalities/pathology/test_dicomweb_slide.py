"""A slide on a real DICOMweb server, Orthanc, against the same files on disk."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import requests

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.dicomweb_slide import open_dicomweb
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.stream import stream_tiles
from clinimm.modalities.pathology.tile_grid import grid_of
from clinimm.modalities.pathology.view import at
from tests.modalities.pathology.made_slides import halved, plain, textured, write_dicom

_STUDY, _SERIES = "1.2.3.1", "1.2.3.2"
_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Server:
    """A running Orthanc with one slide of two levels, its label and its macro picture."""

    root: str
    files: Path

    @property
    def dicomweb(self) -> str:
        return f"{self.root}/dicom-web"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None or not _PLUGIN.is_file():
        pytest.skip("no Orthanc: apt-get install --no-install-recommends orthanc orthanc-dicomweb")
    folder = tmp_path_factory.mktemp("orthanc")
    port = _free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(_PLUGIN)],
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "StudiesMetadata": "Full",
            "SeriesMetadata": "Full",
        },
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [program, str(folder / "orthanc.json")],
        env=os.environ | {"TCP_NODELAY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        root = f"http://127.0.0.1:{port}"
        _wait_for(f"{root}/system", process)
        _send(root, folder / "files")
        yield Server(root, folder / "files")
    finally:
        process.terminate()
        process.wait(timeout=20)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError("Orthanc did not answer")


def _send(root: str, files: Path) -> None:
    pixels = textured(600, 500)
    write_dicom(files / "whole.dcm", pixels)
    resampled = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    write_dicom(files / "half.dcm", halved(pixels), spacing_mm=0.001, ImageType=resampled)
    for kind in ("LABEL", "OVERVIEW"):
        write_dicom(files / f"{kind}.dcm", plain(240, 240), ImageType=["ORIGINAL", "PRIMARY", kind, "NONE"])
    for file in sorted(files.iterdir()):
        requests.post(f"{root}/instances", data=file.read_bytes(), timeout=30).raise_for_status()


def test_a_served_slide_equals_the_files(server: Server) -> None:
    with open_dicomweb(server.dicomweb, _STUDY, _SERIES) as served, Slide(server.files) as local:
        assert served.info.levels == local.info.levels
        assert served.resolution == local.resolution == Resolution.of(0.5)
        for level, box in ((0, (0, 0, 240, 240)), (0, (200, 100, 620, 480)), (1, (0, 0, 300, 250))):
            assert np.array_equal(served.read_region(level, box), local.read_region(level, box))
        assert np.array_equal(served.thumbnail(200), local.thumbnail(200))


def test_tiles_stream_from_the_server(server: Server) -> None:
    with open_dicomweb(server.dicomweb, _STUDY, _SERIES) as served, Slide(server.files) as local:
        found = list(stream_tiles(grid_of(at(served, 0.5), 240), threads=2))
        expected = list(stream_tiles(grid_of(at(local, 0.5), 240)))
    assert len(found) == 4
    for (box, tile), (place, pixels) in zip(found, expected, strict=True):
        assert box == place and np.array_equal(tile, pixels)


def test_no_frame_of_label_or_macro_is_asked_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    send = requests.Session.send

    def noted(
        self: requests.Session, request: requests.PreparedRequest, **options: object
    ) -> requests.Response:
        asked.append(str(request.url))
        return send(self, request, **options)

    monkeypatch.setattr(requests.Session, "send", noted)
    with open_dicomweb(server.dicomweb, _STUDY, _SERIES) as slide:
        slide.thumbnail(600)
    uids = {kind: _instance(server.files / f"{kind}.dcm") for kind in ("LABEL", "OVERVIEW", "whole")}
    frames = [url for url in asked if "/frames/" in url]
    assert any(uids["whole"] in url for url in frames)
    assert not any(uids["LABEL"] in url or uids["OVERVIEW"] in url for url in frames)


def _instance(path: Path) -> str:
    import pydicom

    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def test_an_absent_series_and_an_absent_server_are_refused(server: Server) -> None:
    with pytest.raises(InputRejected, match="cannot-open"):
        open_dicomweb(server.dicomweb, _STUDY, "1.2.3.999")
    with pytest.raises(InputRejected, match="cannot-open"):
        open_dicomweb(f"http://127.0.0.1:{_free_port()}/dicom-web", _STUDY, _SERIES)
