"""Hashes of contents, and the versions of the packages that a number may depend on."""

import contextlib
import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any


def digest(content: Any) -> str:
    """Hash anything that JSON can hold (SHA-256, 16 hexadecimal digits)."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Hash the content of a file (SHA-256, 16 hexadecimal digits)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def text_hash(text: str) -> str:
    """Fingerprint of a text, by which splits are kept apart (SHA-256, 16 hexadecimal digits)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


VERSIONED = ("lmri", "numpy", "scipy", "scikit-learn", "pandas", "nibabel", "nilearn", "torch", "transformers")


def versions() -> dict[str, str]:
    """Versions of the packages that a number may depend on; importing none of them."""
    found = {"python": platform.python_version()}
    for package in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
