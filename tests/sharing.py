"""Studies that tests share: each is built once per machine and version of the code, under a lock, and then copied."""

import getpass
import hashlib
import importlib.metadata
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from filelock import FileLock

import lmri

SHARED = Path(tempfile.gettempdir()) / f"lmri-tests-{getpass.getuser()}"
KEPT = 24 * 3600.0
"""Time for which studies of other versions of the code are kept, in seconds: other checkouts may use them."""

_PACKAGES = ("numpy", "scipy", "scikit-learn", "pandas", "nibabel", "nilearn", "torch", "transformers")


@cache
def version() -> str:
    """Hash everything that a shared study is made of: the package, these tests' builders, and their dependencies."""
    package, tests = Path(lmri.__file__).parent, Path(__file__).parent
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    hashed = hashlib.sha256(repr([importlib.metadata.version(name) for name in _PACKAGES]).encode())
    for path in sorted([*files, tests / "walking.py", tests / "tiny_models.py"]):
        hashed.update(str(path.relative_to(path.anchor)).encode())
        hashed.update(path.read_bytes())
    return hashed.hexdigest()[:16]


def copy_of(name: str, build: Callable[[Path], object], target: Path) -> Path:
    """Copy a shared study to a new folder; build it first, unless a process has done so.

    Parameters
    ----------
    name : str
        Name of the study.
    build : callable
        Function that creates the study in the folder that it is called with.
    target : Path
        Folder of the copy.
    """
    SHARED.mkdir(mode=0o700, exist_ok=True)
    folder = SHARED / version()
    study = folder / name
    with FileLock(SHARED / f"{version()}-{name}.lock"):
        if not study.is_dir():
            _remove_old(except_for=folder)
            unfinished = folder / f"unfinished-{name}"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.parent.mkdir(exist_ok=True)
            build(unfinished)
            unfinished.rename(study)
    return Path(shutil.copytree(study, target))


def _remove_old(except_for: Path) -> None:
    for path in SHARED.iterdir():
        if path.is_dir() and path != except_for and time.time() - path.stat().st_mtime > KEPT:
            shutil.rmtree(path, ignore_errors=True)
            for lock in SHARED.glob(f"{path.name}-*.lock"):
                lock.unlink(missing_ok=True)
