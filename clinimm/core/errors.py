"""The error tree.

    CliniMMError
    |- ConfigError          a pipeline, cohort or policy file is wrong (names file and line)
    |- MissingExtraError    a feature needs an optional package (names the extra)
    |- MissingStageError    a stage was asked for before the stage that it reads from
    |- StaleStageError      a stage was asked for while one that it reads from is out of date
    |- MissingKeyError      a sealed path or pseudonym needs the key, and no key was found
    |- BusyError            another process works in the same run folder
    |- AuditGateError       a model may not be registered; says why
    |- IntegrityError       files are not what was signed, or an unknown key signed them
    |- ModelError           a saved model cannot be loaded or does not fit its input
    |- DataError            data cannot be used as a whole (an empty cohort, one class only)
    |- InputRejected        one item is refused; the batch goes on and the refusal is listed

A message says what was got, what was expected and what to do.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

#: What parsers of images (DICOM, TIFF, decoders) were seen to raise where a file is damaged; they
#: have no common base.
PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


class CliniMMError(Exception):
    """Base of every error that CliniMM raises on purpose."""


class ConfigError(CliniMMError):
    """A file that a person wrote is wrong; the message names the file and the line."""


class MissingExtraError(CliniMMError):
    """An optional package is absent; the message names the extra that installs it."""


class MissingStageError(CliniMMError):
    """A stage's input was not made yet; the message names the stage to run first."""


class StaleStageError(CliniMMError):
    """An earlier stage's result is out of date; the message says which, why, and what to run."""


class MissingKeyError(CliniMMError):
    """The pseudonym key is needed and was not found."""


class BusyError(CliniMMError):
    """Another process works in the same run folder; the message names it."""


class AuditGateError(CliniMMError):
    """A model may not be registered: its audit is missing or belongs to other predictions."""


class IntegrityError(CliniMMError):
    """Files are not what was signed, or they were signed by a key that nobody vouched for."""


class ModelError(CliniMMError):
    """A saved model cannot be loaded, or its input does not fit it."""


class DataError(CliniMMError):
    """The data as a whole cannot answer the question, for the stated reason."""


class InputRejected(CliniMMError):
    """One item is refused. The batch goes on; ingest lists the refusal.

    Args:
        code: stable short name of the reason, such as ``empty-file`` or ``truncated``.
        reason: what was found, in words; holds no patient data.
        remedy: what a data manager can do about it.
    """

    def __init__(self, code: str, reason: str, remedy: str) -> None:
        super().__init__(f"{code}: {reason} ({remedy})")
        self.code = code
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True)
class Refusal:
    """A row of ``refusals.parquet``: an item that did not get in, and what to do about it."""

    file: str
    item: str
    code: str
    reason: str
    remedy: str
