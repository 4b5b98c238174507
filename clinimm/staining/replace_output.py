"""What ``clinimm stain`` may write over: nothing but an output of its own, and never near the source."""

from __future__ import annotations

import re
from pathlib import Path

from clinimm.core.errors import ConfigError, InputRejected
from clinimm.modalities.pathology.synthetic import is_synthetic

#: The files of a stained slide in DICOM.
_OWN_NAMES = re.compile(r"level-\d+\.dcm|uncertainty\.dcm")
_MOST_NAMED = 3


def check_place(out: Path, slide: Path) -> None:
    """Make sure that an output lies neither on its source, nor around it, nor in it.

    Args:
        out: file or folder that is to be made.
        slide: file or folder of the source; links are followed in both.

    Raises:
        ConfigError: it does, or ``out`` names no file or folder of its own.
    """
    if out.name in {"", ".."}:
        raise ConfigError(f"--out {out}: give the name of a new file or folder.")
    place = out.resolve()
    sources = {slide.resolve(), slide.parent.resolve() / slide.name}  # a link, and what it leads to
    if place in sources:
        raise ConfigError(f"--out {out}: that is the slide itself.")
    if any(place in source.parents for source in sources):
        raise ConfigError(f"--out {out}: the slide itself lies in that folder; give a new one.")
    if any(source in place.parents for source in sources):
        raise ConfigError(f"--out {out}: that lies inside the slide's own folder; give a place outside.")


def check_replaceable(out: Path, manifest: Path) -> None:
    """Make sure that what lies at ``out``, if anything, is a stained slide that this program wrote.

    It is one where it is marked as generated, holds no other file, and has its manifest beside it. An
    empty folder may be used too.

    Args:
        out: file or folder that is to be made.
        manifest: where the manifest of an earlier output lies.

    Raises:
        ConfigError: it is anything else.
    """
    if out.is_symlink():
        raise ConfigError(f"--out {out}: that is a link; give the place itself.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if others := _others(out):
        raise ConfigError(
            f"--out {out}: holds what `clinimm stain` did not make ({', '.join(others[:_MOST_NAMED])}), "
            "and is left as it is; give a new name."
        )
    if not manifest.is_file():
        raise ConfigError(
            f"--out {out}: its manifest {manifest.name} is not beside it, so it may not be one of ours, "
            "and is left as it is; give a new name."
        )


def clear_folder(folder: Path) -> None:
    """Remove the files of an earlier DICOM output and their folder; one with any other file is kept whole.

    Raises:
        ConfigError: the folder holds something else.
    """
    if not folder.exists():
        return
    if others := _others(folder):
        raise ConfigError(
            f"{folder} holds other files ({', '.join(others[:_MOST_NAMED])}); nothing is removed."
        )
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def _others(path: Path) -> list[str]:
    """Names of what at ``path`` is no generated file of ours, sorted."""
    if path.is_dir():
        return sorted(
            one.name for one in path.iterdir() if not (_OWN_NAMES.fullmatch(one.name) and _is_made(one))
        )
    return [] if _is_made(path) else [path.name]


def _is_made(path: Path) -> bool:
    try:
        return path.is_file() and not path.is_symlink() and is_synthetic(path) is not None
    except InputRejected:
        return False  # damaged: nobody can tell what it is, so it stays
