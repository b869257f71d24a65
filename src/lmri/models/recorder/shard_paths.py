"""Paths of the shards in the hidden folder of a recording."""

import re
from pathlib import Path


def n_shards_of(folder: Path) -> int:
    """Return the number of shards of a recording, from the name of its hidden folder; 0 if it has no shards."""
    match = re.search(r"_shards-(\d+)$", folder.name)
    return int(match[1]) if match else 0


def part_path(folder: Path, number: int) -> Path:
    """Return the folder of one shard."""
    return folder / f"shard-{number:03d}"


def lock_path(folder: Path, number: int) -> Path:
    """Return the path of the lock of one shard; it is outside its folder, which may be deleted while locked."""
    return folder / f"shard-{number:03d}.lock"


def whole_path(folder: Path) -> Path:
    """Return the folder in which the shards are combined."""
    return folder / "whole"
