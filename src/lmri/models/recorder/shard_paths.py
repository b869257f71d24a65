"""Where the parts of a recording that is made in shards lie in its hidden folder."""

import re
from pathlib import Path


def n_shards_of(folder: Path) -> int:
    """Say in how many shards a recording is made, by the name of its hidden folder; 0 if by one process."""
    found = re.search(r"_shards-(\d+)$", folder.name)
    return int(found[1]) if found else 0


def part_path(folder: Path, number: int) -> Path:
    """Give the folder of one shard."""
    return folder / f"shard-{number:03d}"


def lock_path(folder: Path, number: int) -> Path:
    """Give the lock of one shard; beside its folder, which may be deleted while the lock is held."""
    return folder / f"shard-{number:03d}.lock"


def whole_path(folder: Path) -> Path:
    """Give the folder in which shards are put together."""
    return folder / "whole"
