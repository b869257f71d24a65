"""Fixtures shared by several test files. Models and tokenizers are built by `tiny_models`; no test uses the network."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:  # torch takes seconds to load, and half of the package does not need it
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from lmri import Study

# Set before transformers is imported, so that a test that accesses the hub fails immediately.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

# `make test` draws few examples; `make fuzz` draws many, with --hypothesis-profile=long.
settings.register_profile("short", max_examples=30, deadline=None)
settings.register_profile("long", max_examples=300, deadline=None)
settings.load_profile("short")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder with trained models and real texts, which are not part of the project."""
    folder = os.environ.get("LMRI_TEST_DATA")
    if not folder:
        pytest.skip("LMRI_TEST_DATA is not set: the folder of models/mini-gpt2 and models/tinystories-char-gpt2")
    return Path(folder)


LARGE_FIXTURES = {"demo", "real_data", "study", "walked"}
"""Complete studies and trained models; tests that need one are too slow to be run twice."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests whose tolerances follow from the number format as numeric, unless they need a large fixture."""
    import tolerances

    for item in items:
        code = getattr(getattr(item, "function", None), "__code__", None)
        if code and set(code.co_names) & tolerances.FUNCTIONS and not LARGE_FIXTURES & set(item.fixturenames):
            item.add_marker("numeric")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the number of tests that were skipped because the real data are not available."""
    skipped = [
        report for report in terminalreporter.stats.get("skipped", []) if "LMRI_TEST_DATA" in str(report.longrepr)
    ]
    terminalreporter.write_line(
        f"{len(skipped)} tests were skipped because real data are not available (LMRI_TEST_DATA)"
    )


@pytest.fixture
def gpt2() -> "PreTrainedModel":
    """Build a new tiny GPT-2, which the test may modify."""
    from tiny_models import build

    return build("gpt2")


@pytest.fixture(scope="session")
def tokenizer() -> "PreTrainedTokenizerFast":
    """Return the tokenizer of the tiny models, with one token per word."""
    from tiny_models import word_tokenizer

    return word_tokenizer()


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, tokenizer: "PreTrainedTokenizerFast") -> "Study":
    """Return a study of a tiny GPT-2 recorded at both sites. It is shared: copy its folder before writing."""
    from lmri import open_study, record
    from tiny_models import build, sentences

    root = tmp_path_factory.mktemp("recorded") / "study"
    for site in ("mlp_out", "mlp_hidden"):
        record(build("gpt2"), tokenizer, sentences(32), root, corpus="words", site=site, run_tokens=50)
    return open_study(root)


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory) -> "Study":
    """Return a complete study of the embedded model. It is shared: copy its folder before writing."""
    import warnings

    import lmri
    from sharing import copy_of
    from walking import walk

    def build(root: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # convergence is tested elsewhere
            walk(root)

    return lmri.open_study(copy_of("walked-study", build, tmp_path_factory.mktemp("walked") / "walked-study"))
