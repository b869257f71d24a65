"""Displayed time courses have one scale, both extremes, and the context from the same text."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmri.networks.time_courses import CONTEXT, RunText, ends, scaled, text_bounds
from tolerances import rounding

WORDS = [f"w{number} " for number in range(30)]
TEXT = "".join(WORDS)


def test_courses_are_z_scored_over_all_runs_together():
    rng = np.random.default_rng(0)
    runs = [rng.normal(5, 3, (n, 4)) for n in (20, 7)]
    runs[0][:, 3] = runs[1][:, 3] = 0.1  # whose sd is not exactly 0
    found = scaled(runs)
    np.testing.assert_allclose(found[:, :3], stats.zscore(np.concatenate(runs)[:, :3]))
    assert not found[:, 3].any()  # which does not vary
    shifted = scaled([100 + 10 * one for one in runs])
    np.testing.assert_allclose(shifted, found, atol=rounding(found, len(found)))  # whatever the unit and the mean


def test_no_volume_is_both_highest_and_lowest():
    values = np.array([0.0, 5.0, -5.0, 1.0])
    assert ends(values, 1) == {"highest": [1], "lowest": [2]}
    assert ends(values, 3) == {"highest": [1, 3, 0], "lowest": [2]}
    assert ends(np.array([3.0, -1.0, 2.0, 2.0, 0.0, -4.0, 1.0]), 5) == {"highest": [0, 2, 3, 6, 4], "lowest": [5, 1]}
    assert ends(values, 9) == {"highest": [1, 3, 0, 2], "lowest": []}


def test_constant_or_missing_values_have_no_extremes():
    nothing = {"highest": [], "lowest": []}
    assert ends(np.full(5, 3.0), 2) == ends(np.zeros(0), 2) == ends(np.full(3, np.nan), 2) == nothing
    assert ends(np.array([np.nan, 1.0, 2.0, np.nan]), 1) == {"highest": [2], "lowest": [1]}


def events_of(texts):
    rows = []
    for name, words in texts.items():
        place = 0
        for word in words:
            rows.append({"text_id": name, "token": word, "start": place, "end": place + len(word)})
            place += len(word)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("volume", [0, 3, 29, 30, 35])
def test_the_context_of_a_volume_comes_from_its_own_text(volume):
    events = events_of({"a": WORDS, "b": ["only ", "a ", "few ", "words ", "here ", "."]})
    texts = {"a": TEXT, "b": "only a few words here ."}
    before, token, after = RunText(events, texts).around(volume)
    name = events["text_id"][volume]
    start, end = events["start"][volume], events["end"][volume]
    assert token == texts[name][start:end] == events["token"][volume]
    assert texts[name][:start].endswith(before)
    assert texts[name][end:].startswith(after)
    own = (events["text_id"] == name).to_numpy()
    first = int(np.flatnonzero(own)[0])
    assert len(before.split()) == min(CONTEXT, volume - first)
    assert len(after.split()) == min(CONTEXT, int(own.sum()) - (volume - first) - 1)
    tokens = RunText(events.assign(start=-1), texts).around(volume)  # a tokenizer that cannot tell
    assert [part.split() for part in tokens] == [before.split(), token.split(), after.split()]


def test_a_text_begins_where_its_name_does():
    assert text_bounds(["a", "b", "b", "a"]).tolist() == [0, 1, 3, 4]
