"""The command line: thin, and quick to start because every verb imports what it needs."""

from clinimm.cli.app import main

__all__ = ["main"]
