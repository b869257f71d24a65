"""Results depend on the seeds that are passed, never on the global random state, which stays as the user left it."""

import random
import warnings
from pathlib import Path

import numpy as np
import torch

from lmri import open_study, record
from test_compare_studies import compare
from tiny_models import build, sentences


def _states() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002, the global state is tested
    return name, keys.tobytes(), *rest, random.getstate(), torch.get_rng_state().numpy().tobytes()


def _analyse(root: Path, tokenizer, global_seed: int) -> None:
    model = build("gpt2")  # before the seeds, because it sets its own
    random.seed(global_seed)
    np.random.seed(global_seed)  # noqa: NPY002
    torch.manual_seed(global_seed)
    before = _states()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record(model, tokenizer, sentences(12), root, corpus="words", run_tokens=128)
        record(model, tokenizer, sentences(4), root, corpus="written", generate=8, temperature=1.0)
        study = open_study(root)
        study.decompose(corpus=["words"], n_components=3, name="ica", n_init=2)
        study.threshold("ica", by="top:0.05", name="top")
        study.lesion("top", n_controls=2, model=(model, tokenizer), name="lesion")
    assert _states() == before


def test_results_do_not_depend_on_the_global_random_state(tmp_path, tokenizer):
    _analyse(tmp_path / "a", tokenizer, 1)
    _analyse(tmp_path / "b", tokenizer, 2)
    assert list(compare.differences(tmp_path / "a", tmp_path / "b")) == []
