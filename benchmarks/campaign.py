"""Rerun the simulations of the pages on phantoms and nulls: ``python benchmarks/campaign.py [PAGE ...]``.

Each page names the command that wrote it. The command is run again and replaces the page, except for the page's title.
If the command fails, the old page is restored. Compare the tables with ``git diff docs``.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/nulls.md", "docs/phantoms-methods.md", "docs/phantoms.md")


def command_of(page: str, root: Path = ROOT) -> list[str]:
    """Return the arguments of the ``lmri phantom`` command by which a page was written."""
    commands = re.findall(r"`lmri (phantom [^`]+)`", (root / page).read_text(encoding="utf-8"))
    for command in commands:
        arguments = shlex.split(command)
        if arguments[-2:] == ["--table", page]:
            return arguments
    raise ValueError(f"{page} names no command `lmri phantom ... --table {page}`. Add the command to the page.")


def rerun(page: str, root: Path = ROOT) -> None:
    """Rerun the command of a page, and keep the title of the page."""
    path, arguments = root / page, command_of(page, root)
    old = path.read_text(encoding="utf-8")
    path.unlink()  # the command does not overwrite files
    try:
        subprocess.run([sys.executable, "-c", "from lmri.cli import main; main()", *arguments], cwd=root, check=True)
        title, tables = old.split("\n", 1)[0], path.read_text(encoding="utf-8").split("\n", 1)[1]
    except BaseException:
        path.write_text(old, encoding="utf-8")
        raise
    path.write_text(f"{title}\n{tables}", encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:] or PAGES:
        print(f"{name}: lmri {shlex.join(command_of(name))}", flush=True)
        rerun(name)
