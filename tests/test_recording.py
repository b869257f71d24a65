"""Runs contain whole texts in order, and no run has only a few volumes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmri.storage.recording import pack


@given(st.lists(st.integers(0, 900), max_size=40).filter(any), st.integers(50, 1200))
def test_every_text_with_volumes_is_in_one_run_in_order(volumes, run_tokens):
    runs = pack(volumes, run_tokens)
    assert [text for run in runs for text in run] == [text for text, count in enumerate(volumes) if count]
    lengths = [sum(volumes[text] for text in run) for run in runs]
    assert len(runs) == 1 or min(lengths) >= run_tokens / 2


def test_short_texts_beside_long_ones_are_merged():
    assert len(pack([8, 5000, 3, 5000, 4], 1024)) == 2


def test_texts_can_be_counted_instead():
    assert pack([5, 0, 7, 9], 1024, texts_per_run=1) == [[0], [2], [3]]
    assert pack([5, 0, 7, 9], 1024, texts_per_run=2) == [[0, 2], [3]]


@pytest.mark.parametrize("options", [{"run_tokens": 0}, {"run_tokens": 9, "texts_per_run": 0}])
def test_sizes_below_one_are_refused(options):
    with pytest.raises(ValueError, match="must be at least 1"):
        pack([3], **options)
