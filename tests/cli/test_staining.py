"""``clinimm stain`` and ``clinimm provenance verify`` from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from clinimm.cli.app import run
from clinimm.cli.staining import verdict_lines
from clinimm.nn.stain.generator import GeneratorSettings
from clinimm.staining.provenance import Provenance, State, Verdict, manifest_beside
from clinimm.staining.stainer import Stainer, StainerSpec
from clinimm.tasks.virtual_staining import StainTask
from tests.staining.whole_slide_parts import on_glass

#: The models of these tests have no safety case, and nobody evaluated them.
PLAIN = ("--without-safety-case", "--despite-verdict", "-q")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an untrained stainer of two stains."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    settings = GeneratorSettings(stains=2, width=8, levels=3)
    spec = StainerSpec(StainTask(("KI67", "CD3")), "HE", 0.5, "unet", settings, 1, None, {})
    Stainer(spec).eval().save_pretrained(folder / "train" / "model")
    return folder


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    _write(path, on_glass(700, 1500, (300, 200, 1100, 600)), 0.5)
    return path


def _write(path: Path, pixels: np.ndarray, um: float | None) -> None:
    resolution = None if um is None else (10_000 / um, 10_000 / um)
    tifffile.imwrite(
        path,
        pixels,
        tile=(256, 256),
        photometric="rgb",
        resolution=resolution,
        resolutionunit="CENTIMETER" if um else None,
        metadata=None,
    )


@pytest.mark.parametrize("form", ["ome", "dicom"])
def test_stained_slide_is_intact_until_somebody_changes_it(
    model: Path, slide: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / ("out.ome.tif" if form == "ome" else "out")
    command = ["stain", str(model), str(slide), "--out", str(out), "--stain", "KI67", "--format", form, "-q"]
    assert run(command) == 2
    assert "--without-safety-case" in capsys.readouterr().err
    assert not out.exists()
    assert run([*command, "--without-safety-case"]) == 2
    assert "was not evaluated" in (said := capsys.readouterr().err) and "--despite-verdict" in said
    assert not out.exists()
    assert run([*command, *PLAIN]) == 0
    said = capsys.readouterr().out
    assert "Run not registered" in said and "No safety case" in said and "Run not evaluated" in said
    assert "virtual KI67" in said and "1500 x 700 pixels" in said and "nothing could be refused" in said
    assert not list(tmp_path.glob(".*"))  # nothing unfinished is left
    assert run(["provenance", "verify", str(out)]) == 0
    said = capsys.readouterr().out
    assert "intact" in said and "virtual KI67" in said and "caution:   No safety case" in said
    file = out if form == "ome" else out / "level-0.dcm"
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    assert run(["provenance", "verify", str(out)]) == 2
    assert "ALTERED" in capsys.readouterr().out


def test_what_a_strangers_manifest_says_is_only_claimed_and_moves_no_cursor() -> None:
    said = "all is well\n\x1b[2Jslide.tif: intact\u202e"
    manifest = {
        "shares": {"stained": 1.0, "glass": 0.0, "refused": 0.0},
        "cautions": {"sentences": [said]},
    }
    verdict = Verdict(
        State.UNKNOWN, Provenance("KI67\r", "m", "s", "g"), "k", ("nobody \x9b knows",), manifest
    )
    lines = verdict_lines(Path("slide.tif"), verdict)
    assert all(line.isprintable() for line in lines)
    assert "  claimed caution:   all is well\ufffd\ufffd[2Jslide.tif: intact\ufffd" in lines
    assert any(line.startswith("  claimed generated: virtual KI67\ufffd,") for line in lines)
    vouched = verdict_lines(Path("slide.tif"), replace(verdict, state=State.INTACT))
    assert not any("claimed" in line for line in vouched)


def test_an_ordinary_slide_is_not_vouched_for(slide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["provenance", "verify", str(slide)]) == 3
    assert "nothing says that it was generated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "x.ome.tif"], "KI67, CD3: choose one with --stain"),
        (["--out", "x.ome.tif", "--stain", "HER2"], "KI67, CD3"),
        (["--out", "x.tif", "--stain", "KI67"], ".ome.tif"),
        (["--out", "x.ome.tif", "--stain", "KI67", "--keep-identity"], "--keep-identity"),
    ],
)
def test_wrong_options_are_named(
    model: Path,
    slide: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["stain", str(model), str(slide), *PLAIN, *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.tif"))


def test_a_run_without_a_stainer_says_what_to_do(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["stain", str(tmp_path), str(slide), "--out", str(tmp_path / "x.ome.tif"), "-q"]) == 2
    assert "clinimm train" in capsys.readouterr().err


def test_a_generated_slide_is_not_stained_again(
    model: Path, slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.ome.tif", tmp_path / "second.ome.tif"
    base = ["stain", str(model)]
    assert run([*base, str(slide), "--out", str(first), "--stain", "KI67", *PLAIN]) == 0
    again = [*base, str(first), "--out", str(second), "--stain", "CD3", *PLAIN]
    assert run(again) == 2
    assert "synthetic-input" in capsys.readouterr().err
    assert run([*again, "--allow-synthetic"]) == 0
    manifest = json.loads(manifest_beside(second).read_text(encoding="utf-8"))["manifest"]
    assert manifest["source"]["synthetic"] is True


def test_a_slide_without_a_resolution_needs_the_option(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = tmp_path / "plain.tif"
    _write(slide, on_glass(300, 400, (50, 50, 300, 250)), None)
    command = [
        "stain",
        str(model),
        str(slide),
        "--out",
        str(tmp_path / "x.ome.tif"),
        "--stain",
        "KI67",
        *PLAIN,
    ]
    assert run(command) == 2
    assert "no-resolution" in capsys.readouterr().err
    assert run([*command, "--resolution-um", "0.25"]) == 0
    assert "200 x 150 pixels" in capsys.readouterr().out
    assert run([*command, "--resolution-um", "2"]) == 2
    assert "too-coarse" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_call_goes_on_and_gives_the_same_pixels(model: Path, tmp_path: Path) -> None:
    slide = tmp_path / "large.tif"
    _write(slide, on_glass(3400, 300, (0, 0, 300, 3400)), 0.5)
    out, once = tmp_path / "out.ome.tif", tmp_path / "once.ome.tif"
    options = ["--stain", "KI67", *PLAIN]
    command = [
        sys.executable,
        "-m",
        "clinimm",
        "stain",
        str(model),
        str(slide),
        "--out",
        str(out),
        *options,
    ]
    with subprocess.Popen(command) as process:
        bands = tmp_path / ".out.ome.tif.unfinished" / "tiles" / "level-00"
        for _ in range(6000):
            if len(list(bands.glob("*.npz"))) >= 2:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    assert 2 <= len(list(bands.glob("*.npz"))) < 5
    assert run(command[3:]) == 0
    assert run(["stain", str(model), str(slide), "--out", str(once), *options]) == 0
    both = [json.loads(manifest_beside(one).read_text(encoding="utf-8"))["manifest"] for one in (out, once)]
    assert both[0]["levels"] == both[1]["levels"]
