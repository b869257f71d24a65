"""What several test files share. Models and tokenizers are made by `tiny_models`; nothing asks the network."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # torch takes seconds, and half of the package does without
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from lmri import Study

# Before transformers is imported: a test that asks the hub is wrong, and is to fail at once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Give the folder with trained models and real texts, which are not part of the project."""
    folder = os.environ.get("LMRI_TEST_DATA")
    if not folder:
        pytest.skip("LMRI_TEST_DATA is not set: the folder of models/mini-gpt2 and models/tinystories-char-gpt2")
    return Path(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped for want of the real data."""
    skipped = [
        report for report in terminalreporter.stats.get("skipped", []) if "LMRI_TEST_DATA" in str(report.longrepr)
    ]
    terminalreporter.write_line(f"{len(skipped)} tests were skipped for want of real data (LMRI_TEST_DATA)")


@pytest.fixture
def gpt2() -> "PreTrainedModel":
    """Give a fresh tiny GPT-2, which the test may change."""
    from tiny_models import build

    return build("gpt2")


@pytest.fixture(scope="session")
def tokenizer() -> "PreTrainedTokenizerFast":
    """Give the tokenizer of the tiny models: one token a word."""
    from tiny_models import word_tokenizer

    return word_tokenizer()


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, tokenizer: "PreTrainedTokenizerFast") -> "Study":
    """Give a study of a tiny GPT-2 that read one corpus at both sites; for reading, so copy its folder to write."""
    from lmri import open_study, record
    from tiny_models import build, sentences

    root = tmp_path_factory.mktemp("recorded") / "study"
    for site in ("mlp_out", "mlp_hidden"):
        record(build("gpt2"), tokenizer, sentences(32), root, corpus="words", site=site, run_tokens=50)
    return open_study(root)


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory) -> "Study":
    """Give a study of the embedded model that went all the way; for reading, so copy its folder to write."""
    import warnings

    from filelock import FileLock

    import lmri
    from walking import walk

    # Processes that run tests beside each other share one.
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    folder = tmp_path_factory.getbasetemp().parent if is_worker else tmp_path_factory.mktemp("walked")
    root, done = folder / "walked-study", folder / "walked-study.done"
    with FileLock(folder / "walked-study.lock"):
        if not done.is_file():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # whether a decomposition converges is another test's business
                walk(root)
            done.touch()
    return lmri.open_study(root)
