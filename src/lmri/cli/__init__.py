"""The command line: one command per stage, in the words of the library. Heavy imports wait until a command runs."""

from lmri.cli.app import main

__all__ = ["main"]
