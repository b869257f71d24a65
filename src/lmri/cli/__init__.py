"""The command line: one command per stage, with the library's names. Heavy imports are deferred to the commands."""

from lmri.cli.app import main

__all__ = ["main"]
