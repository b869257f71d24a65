"""Hashes of contents, and versions of the packages that results may depend on."""

import contextlib
import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any


def digest(content: Any) -> str:
    """Return the hash of JSON content (SHA-256, 16 hexadecimal digits)."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Return the hash of the content of a file (SHA-256, 16 hexadecimal digits)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def text_hash(text: str) -> str:
    """Return the hash of a text, which identifies it in splits (SHA-256, 16 hexadecimal digits)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


VERSIONED = ("lmri", "numpy", "scipy", "scikit-learn", "pandas", "nibabel", "nilearn", "torch", "transformers")


def versions() -> dict[str, str]:
    """Return the versions of the packages that results may depend on, without importing the packages."""
    installed = {"python": platform.python_version()}
    for package in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[package] = importlib.metadata.version(package)
    return installed
