"""The command line starts at once, and says what is wrong in a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clinimm.cli import app as application
from clinimm.core.errors import DataError

HEAVY = ("torch", "monai", "mlflow", "pandas", "transformers", "pydicom", "matplotlib", "pyarrow")


def _modules_after(code: str) -> set[str]:
    text = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint('|'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split("|"))


@pytest.mark.parametrize(
    "code",
    [
        "import clinimm",
        "from clinimm.cli import main; main(['--help'])",
        "from clinimm.cli import main; main(['run', '--help'])",
    ],
)
def test_start_imports_nothing_heavy(code: str) -> None:
    assert _modules_after(code).isdisjoint(HEAVY)


def test_it_is_a_module_as_well() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clinimm", "--help"], check=True, capture_output=True, text=True
    )
    assert "Usage: clinimm" in done.stdout


def test_every_verb_of_the_readme_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert application.run(["--help"]) == 0
    text = capsys.readouterr().out
    verbs = (
        "run ingest cohort encode train predict evaluate explain audit register report validate verify "
        "simulate cache doctor version"
    )
    for verb in verbs.split():
        assert f"  {verb} " in text


def test_known_error_is_one_message_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert application.run(["run", "no_such_file.yaml"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("clinimm: no_such_file.yaml: neither a pipeline file nor a run.")
    assert "Traceback" not in text


def test_mistake_in_a_pipeline_file_names_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("name: x\ntrain:\n  epochs: -3\n")
    assert application.run(["ingest", str(file)]) == 2
    assert f"{file}:3: train.epochs" in capsys.readouterr().err


def test_debug_shows_the_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINIMM_DEBUG", "")
    assert application.run(["--debug", "run", "no_such_file.yaml"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_wrong_option_is_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert application.run(["run", "--no-such-option"]) == 2


def _raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    def application_that_fails(**_: object) -> None:
        raise error

    monkeypatch.setattr(application, "app", application_that_fails)
    return application.run([])


def test_defect_leaves_its_traceback_in_a_private_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert _raising(ZeroDivisionError("division by zero"), monkeypatch) == application.EXIT_DEFECT
    text = capsys.readouterr().err
    (file,) = tmp_path.iterdir()
    assert "ZeroDivisionError: division by zero" in text
    assert str(file) in text
    assert "Traceback" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_interrupt_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("clinimm.pipeline.run_stage", interrupted)
    file = tmp_path / "p.yaml"
    file.write_text("name: x\n")
    assert application.run(["train", str(file)]) == application.EXIT_INTERRUPTED
    assert "goes on where it stopped" in capsys.readouterr().err


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert application.run([]) == 2
    assert "Commands:" in "".join(capsys.readouterr())


def test_missing_package_names_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _raising(ModuleNotFoundError("No module named 'tifffile'", name="tifffile"), monkeypatch) == 2
    assert "tifffile is not installed: pip install 'clinimm[all]'" in capsys.readouterr().err


def test_note_of_an_error_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = DataError("nobody is left.")
    error.add_note("stage cohort of runs/x")
    assert _raising(error, monkeypatch) == 2
    assert "stage cohort of runs/x" in capsys.readouterr().err
