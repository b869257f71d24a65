"""Templates of every corpus: their construction and their counts."""

import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from typer.testing import CliRunner

from lmri.cli.app import app
from lmri.decomposition.individuals.corpus_templates import find_templates_by_corpus
from lmri.decomposition.individuals.template_figure import templates_figure
from lmri.exceptions import NothingFoundError
from lmri.networks import NetworkSet


def of_corpus(space, recordings):
    """Make a fit that knows of which corpus a text is, and finds its own network there, and one that is common."""
    corpus = {}
    for place, recording in enumerate(recordings):
        for array, events in zip(recording.arrays(), recording.events, strict=True):
            texts = events["text_id"].to_numpy(dtype=object)
            for name in dict.fromkeys(texts):
                corpus[array[texts == name].tobytes()] = place
    calls = []

    def fit(imgs):
        arrays = [space.from_img(img) for img in imgs]
        places = {corpus[array.tobytes()] for array in arrays}
        calls.append((places, [array.tobytes() for array in arrays]))
        members = np.zeros((2, space.n_neurons), dtype=bool)
        members[0, :30] = True
        for place in places:
            members[1, 100 * (1 + place) : 100 * (1 + place) + 40] = True
        return NetworkSet(space, members.astype(float), members)

    return fit, calls


def test_shared_networks_recur_in_all_corpora_and_specific_ones_in_one(walked):
    recordings = walked.group()
    fit, calls = of_corpus(recordings[0].space, recordings)
    found = find_templates_by_corpus(fit, recordings, 4, 6, min_volumes=2)
    table = found.table.set_index(["templates_of", "template", "label"])
    for own in ("code", "news"):
        for label in ("code", "news"):
            assert table.loc[(own, "networks-00", label), "n_above"] == 6
            assert table.loc[(own, "networks-01", label), "n_above"] == (6 if own == label else 0)
    assert (table["chance_95"] == 0).all()
    # Each corpus makes its own templates, each single text is decomposed once, and no text is on both sides.
    groups, single = [one for one in calls if len(one[1]) > 1], [one for one in calls if len(one[1]) == 1]
    assert [(places, len(texts)) for places, texts in groups] == [({0}, 4), ({1}, 4)]
    assert len(single) == 12 == found.n_individuals
    made = {text for _, texts in groups for text in texts}
    assert not made & {texts[0] for _, texts in single}


def test_counts_are_those_of_each_overlap_and_half_of_the_texts_are_drawn_by_default(walked):
    recordings = walked.group()
    fit, calls = of_corpus(recordings[0].space, recordings)
    found = find_templates_by_corpus(fit, recordings, min_volumes=2)
    assert len(calls[0][1]) == len(calls[1][1])
    one = found.overlaps["code"]
    single = [texts for _, texts in calls if len(texts) == 1]
    assert len(single) == found.n_individuals == 2 * len(calls[0][1])
    own = found.table[found.table["templates_of"] == "code"].drop(columns="templates_of").reset_index(drop=True)
    assert own.equals(one.table)


def test_a_text_without_significant_neurons_counts_as_empty(walked):
    recordings = walked.group()
    space = recordings[0].space

    def fit(imgs):
        if len(imgs) == 1:
            raise NothingFoundError("nothing")
        members = np.arange(space.n_neurons) < 20
        return NetworkSet(space, members[None].astype(float), members[None])

    found = find_templates_by_corpus(fit, recordings, 3, 3, min_volumes=2)
    assert found.n_nothing_found == found.n_individuals == 6
    assert (found.table["n_above"] == 0).all()
    assert (found.table["n_empty"] == 3).all()


def test_too_few_texts_are_refused(walked):
    recordings = walked.group()
    with pytest.raises(ValueError, match="500 for the templates"):
        find_templates_by_corpus(lambda imgs: None, recordings, 500, min_volumes=2)


@pytest.mark.filterwarnings("ignore")
def test_the_command_counts_draws_and_writes(walked, tmp_path):
    out, study = tmp_path / "templates", tmp_path / "study"
    shutil.copytree(walked.root, study)
    words = ["templates", str(study), "--n-group", "3", "--n-individual", "3", "--n-components", "3"]
    words += ["--min-volumes", "20"]
    done = CliRunner().invoke(app, [*words, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "Templates of code" in done.output
    assert "95th percentile for random networks" in " ".join(done.output.split())
    expected = {"templates.tsv", "templates.svg", "templates.png", "outcome.json"}
    expected |= {f"templates-of-{corpus}.{ending}" for corpus in ("code", "news") for ending in ("layout.tsv", "md")}
    assert {path.name for path in out.iterdir()} == expected
    said = "".join(ET.fromstring((out / "templates.svg").read_text()).itertext())
    assert "of code" in said
    assert "of news" in said
    again = CliRunner().invoke(app, [*words, "--out", str(out)])
    assert again.exit_code != 0
    both = CliRunner().invoke(app, [*words, "--paper"])
    assert "--paper sets" in " ".join(both.output.split())


def test_the_figure_marks_what_is_beyond_chance(walked):
    recordings = walked.group()
    fit, _ = of_corpus(recordings[0].space, recordings)
    found = find_templates_by_corpus(fit, recordings, 3, 5, min_volumes=2)
    drawn = templates_figure(found.overlaps)
    assert drawn == templates_figure(found.overlaps)
    bold = [one for one in ET.fromstring(drawn).iter() if "700" in one.get("style", "") and one.text == "5"]
    assert len(bold) == 6  # the common one in two corpora of two templates, and each corpus' own
