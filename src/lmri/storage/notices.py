"""Notices: facts about the user's files that a command prints, such as the number of texts that were read."""

import logging

NAME = "lmri.notices"
"""Logger of the notices: the command line prints them on standard error, Python prints them from level info on."""

_logger = logging.getLogger(NAME)


def notice(text: str) -> None:
    """Print a notice in the command line, and log it in Python."""
    _logger.info("%s", text)
