"""The application, and the one place where errors become messages and exit codes.

Exit codes: 0 done; 1 something needed is missing (``doctor``); 2 CliniMM refuses and says why;
70 a defect; 130 interrupted. ``audit`` has its own: see there.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import typer

from clinimm.cli import (
    audit_table,
    gate,
    governance,
    monitor,
    register_stains,
    runs,
    serve,
    slides,
    stages,
    staining,
    tools,
)
from clinimm.core.errors import CliniMMError

EXIT_REFUSED = 2
EXIT_DEFECT = 70
EXIT_INTERRUPTED = 130

#: What Typer raises for a wrong option; it exports the class's children only.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="clinimm",
    help="Fuse a hospital's images, records, slides and notes; explain, audit and register the result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the whole traceback of an error."),
) -> None:
    if debug:
        os.environ["CLINIMM_DEBUG"] = "1"


_VERBS = (
    runs,
    stages,
    audit_table,
    governance,
    monitor,
    tools,
    staining,
    slides,
    register_stains,
    gate,
    serve,
)
for module in _VERBS:
    module.add_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code."""
    try:
        code = app(
            args=list(arguments) if arguments is not None else None,
            prog_name="clinimm",
            standalone_mode=False,
        )
    except _UsageError as error:
        error.show()
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except CliniMMError as error:
        _say_error(error)
        return EXIT_REFUSED
    except ModuleNotFoundError as error:
        _say_error(error)
        _say(
            f"The package {error.name} is not installed: pip install 'clinimm[all]' "
            "(clinimm doctor lists what is missing)."
        )
        return EXIT_REFUSED
    except Exception as error:  # noqa: BLE001  # the outermost frame: a person gets a sentence, the file the rest
        return _report_defect(error)
    if code == EXIT_INTERRUPTED:
        _say("\nInterrupted. Finished stages are kept: the same command goes on where it stopped.")
    return code if isinstance(code, int) else 0


def _say_error(error: Exception) -> None:
    if os.environ.get("CLINIMM_DEBUG"):
        traceback.print_exception(error)
    for text in (f"clinimm: {error}", *getattr(error, "__notes__", ())):
        _say(text)


def _report_defect(error: Exception) -> int:
    if os.environ.get("CLINIMM_DEBUG"):
        traceback.print_exception(error)
        return EXIT_DEFECT
    handle, name = tempfile.mkstemp(prefix="clinimm-", suffix=".traceback.txt")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        traceback.print_exception(error, file=stream)
    _say(
        f"clinimm: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}\n"
        f"This is a defect in CliniMM or in a plug-in. The traceback is in {Path(name)}; read it for\n"
        "patient data before you send it to anybody. --debug shows it here."
    )
    return EXIT_DEFECT


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
