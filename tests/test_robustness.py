"""Robustness: a simulated network has an effect under every setting, another under none; no result is dropped."""

import dataclasses
import json
import random
import shutil
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import lmri
from lmri import MatchedControls, NeuronICA, lesion, record
from lmri.cli.app import app
from lmri.exceptions import DataWarning, StudyError
from lmri.lesions.experiments import Robustness, robustness, specifications
from lmri.lesions.experiments.choices import KINDS, Choice, Variant, threshold_label
from lmri.lesions.experiments.judging import COLUMNS, HOLDS, STATUSES, judge
from lmri.lesions.experiments.specification_plot import robustness_figure
from lmri.lesions.experiments.specifications import Specifications
from lmri.lesions.interventions import Intervention
from lmri.lesions.tasks import Perplexity
from lmri.networks import Network
from lmri.space import NeuronSpace
from lmri.space.drawing import drawing
from tiny_models import VOCABULARY, WORDS, build
from tolerances import rounding

N_PLANTED = 6
Z = (("z", {"z": 2.5}), ("z", {"z": 3.5}))
SHORT = {"n_controls": 19, "seeds": (1, 2), "thresholds": Z, "methods": ("canica", "fastica-temporal")}


def planted_model():
    """Build a model in which six hidden units of layer 0 encode the half of the words of a token, and alone predict.

    Six others know whether its number is even, write as much elsewhere, and decide nothing.
    """
    model = build("gpt2", width=64, hidden=112, tie_word_embeddings=False)
    generator = torch.Generator().manual_seed(0)
    ids, n = torch.arange(VOCABULARY), N_PLANTED
    body = model.transformer
    with torch.no_grad():
        body.wte.weight.copy_(0.5 * torch.randn(VOCABULARY, 64, generator=generator))
        body.wpe.weight *= 0.5
        for weight in (body.wte.weight, body.wpe.weight):
            weight[:, :8] = 0
        body.wte.weight[:, 4] = torch.where(ids < 35, 2.0, -2.0)
        body.wte.weight[:, 5] = torch.where(ids % 2 == 0, 2.0, -2.0)
        for block in body.h:
            for values in (block.ln_2.bias, block.attn.c_proj.weight, block.attn.c_proj.bias, block.mlp.c_fc.bias):
                values.zero_()
            block.ln_2.weight.fill_(1)
            read, write = block.mlp.c_fc.weight, block.mlp.c_proj.weight  # (in, out) of both
            read *= 0.5
            read[:8], read[:, : 2 * n] = 0, 0
            write *= 0.3
            write[:, :8], write[: 2 * n] = 0, 0
            block.mlp.c_proj.bias.zero_()
        mlp = body.h[0].mlp
        mlp.c_fc.weight[4, :n], mlp.c_fc.weight[5, n : 2 * n] = 2, 2
        mlp.c_proj.weight[:n, 0:2], mlp.c_proj.weight[n : 2 * n, 2:4] = 0.4, 0.4
        body.ln_f.weight.fill_(1)
        body.ln_f.bias.zero_()
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, :2] = torch.where(ids < 35, 0.06, -0.06)[:, None]
    return model


def halves(n, seed=0):
    """Generate texts that stay in one half of the words for some time."""
    rng = random.Random(seed)
    first, second = WORDS[:30], WORDS[30:60]
    made = []
    for _ in range(n):
        pool, row = rng.choice([first, second]), []
        for _ in range(rng.randint(20, 40)):
            if rng.random() < 0.15:
                pool = second if pool is first else first
            row.append(rng.choice(pool))
        made.append(" ".join(row))
    return made


@pytest.fixture(scope="module")
def model():
    return planted_model()


@pytest.fixture(scope="module")
def study(tmp_path_factory, model, tokenizer):
    root = tmp_path_factory.mktemp("robustness") / "study"
    for site in ("mlp_out", "mlp_hidden"):
        record(model, tokenizer, halves(40), root, corpus="words", site=site, run_tokens=300)
    study = lmri.open_study(root)
    recordings = study.group("mlp_hidden")
    imgs = [img for one in recordings for img in one.imgs]
    estimator = NeuronICA(recordings[0].space, 4, n_init=3, standardize="center", random_state=0).fit(imgs)
    maps, space = estimator.components_.copy(), recordings[0].space
    # The last one is made by hand, of neurons that have nothing in common: no decomposition finds it.
    hand = np.random.default_rng(0).choice(np.flatnonzero(space.layer_of > 0), 12, replace=False)
    maps[3] = np.isin(np.arange(space.n_neurons), hand)
    estimator._set_maps(maps)
    study.save_decomposition(estimator, recordings, "ica")
    study.save_networks(study.decomposition("ica", "mlp_hidden").threshold("z", z=3.0), "ica")
    return study


def number_of(study, first):
    """Return the index of the network with the simulated neurons from `first` on."""
    networks = study.networks("ica", "mlp_hidden")
    wanted = np.isin(np.arange(networks.space.n_neurons), np.arange(first, first + N_PLANTED))
    return next(number for number, members in enumerate(networks.members) if (members == wanted).all())


@pytest.fixture(scope="module")
def task(study):
    return Perplexity(study.recording("words", "mlp_hidden").test_texts, "held-out")


@pytest.fixture(scope="module")
def positive(study, model, tokenizer, task):
    return robustness(study, model, tokenizer, [task], "ica", str(number_of(study, 0)), "mlp_hidden", **SHORT)


@pytest.fixture(scope="module")
def absent(study, model, tokenizer, task):
    return robustness(study, model, tokenizer, [task], "ica", "ica-03", "mlp_hidden", **SHORT)


# -- planted truth ----------------------------------------------------------------------------------------------------


def test_a_network_that_decides_survives_every_choice(positive):
    table = positive.table
    assert list(table.columns) == list(COLUMNS)
    assert list(table["kind"].unique()) == ["base", *KINDS]
    assert len(table) == 1 + 1 + 2 + 2 + 2 + 2 + 1 + 1
    assert (table["status"] == HOLDS).all()
    assert (table["reason"] == "").all()
    total = positive.survival.set_index("kind").loc["all"]
    assert (total["n_variants"], total["n_holds"], total["base"]) == (11, 11, HOLDS)
    assert "holds in the base and in 11 of 11 variants" in positive.text
    # Other decompositions find the same neurons, and the other site those that they write to.
    same = table[table["site"] == "mlp_hidden"]
    assert (same["n_neurons"] == N_PLANTED).all()
    site = table[table["kind"] == "site"].iloc[0]
    assert (site["site"], site["n_neurons"], site["matched_by"]) == ("mlp_out", 2, "time courses")
    refitted = table[table["kind"].isin(["seed", "method"])]
    assert (refitted["matched_by"] == "maps").all()
    assert (refitted["r"].abs() > refitted["r_null_95"]).all()
    assert table.loc[~table["kind"].isin(["seed", "method", "site"]), "r"].isna().all()


def test_a_network_that_decides_nothing_survives_no_choice(study, model, tokenizer, task):
    number = number_of(study, N_PLANTED)
    found = robustness(study, model, tokenizer, [task], "ica", str(number), "mlp_hidden", **SHORT)
    assert (found.table["status"] == "does not hold").all()
    assert found.table["reason"].str.contains("no more harm than its controls").all()
    total = found.survival.set_index("kind").loc["all"]
    assert (total["n_holds"], total["n_does_not_hold"]) == (0, 11)
    assert "is not supported in the base (does not hold); it holds in 0 of 11 variants" in found.text


def test_a_network_that_others_do_not_find_is_not_found_again(absent):
    table = absent.table
    refitted = table["kind"].isin(["site", "seed", "method"])
    assert (table.loc[refitted, "status"] == "not found again").all()
    assert (table.loc[refitted, "r"].abs() <= table.loc[refitted, "r_null_95"]).all()
    assert table.loc[refitted, "reason"].str.contains("within the null").all()
    # The same map under other thresholds or baselines is the same network.
    assert (table.loc[~refitted, "status"] == "does not hold").all()
    assert absent.survival.set_index("kind").loc["all", "n_not_found_again"] == refitted.sum() == 5


def test_a_lost_network_does_not_survive_even_if_its_substitute_has_an_effect(
    study, model, tokenizer, task, monkeypatch
):
    number = number_of(study, 0)
    matched = Specifications._matched

    def lost(self, maps, chosen, choice, seed):
        return dataclasses.replace(
            matched(self, maps, chosen, choice, seed), above_null=choice.kind != "seed", limit=1.0
        )

    monkeypatch.setattr(Specifications, "_matched", lost)
    options = {**SHORT, "vary": ["seed"]}
    table = robustness(study, model, tokenizer, [task], "ica", str(number), "mlp_hidden", **options).table
    assert list(table["status"]) == [HOLDS, "not found again", "not found again"]
    assert (table["p"] == 0.05).all()  # the numbers stand there all the same


def test_the_union_is_compared_with_unions(study, model, tokenizer, task):
    found = robustness(study, model, tokenizer, [task], "ica", site="mlp_hidden", **{**SHORT, "vary": ["site", "seed"]})
    assert found.target == "ica-union"
    assert found.table["r"].isna().all()
    assert (found.table["matched_by"] == "").all()
    networks = study.networks("ica", "mlp_hidden")
    assert found.table["n_neurons"].iloc[0] == networks.union().n_neurons > N_PLANTED


# -- by hand ----------------------------------------------------------------------------------------------------------


def by_hand(items, summed, seed):
    """Compute the difference beyond controls and its interval from items alone."""
    wide = items.pivot(index="cluster", columns="condition", values="value")
    tokens = items[items["condition"] == "intact"].set_index("cluster")["n_tokens"].loc[wide.index]
    controls = [name for name in wide if name.startswith(f"{summed}/")]

    def beyond(counts):
        weights = (counts * tokens.to_numpy()) / (counts * tokens.to_numpy()).sum()
        mean = weights @ wide
        return mean[summed] - mean[controls].mean()

    n = len(wide)
    drawn = np.random.default_rng([seed, zlib.crc32("\n".join(wide.index).encode())])
    resampled = [beyond(counts) for counts in drawn.multinomial(n, np.full(n, 1 / n), size=2000)]
    diffs = (tokens / tokens.sum()) @ wide.sub(wide["intact"], axis=0)
    p = (1 + (diffs[controls] >= diffs[summed]).sum()) / (1 + len(controls))
    return beyond(np.ones(n)), *np.percentile(resampled, [2.5, 97.5]), p, diffs[controls].std(ddof=1)


@pytest.mark.parametrize("which", ["positive", "absent"])
def test_effect_interval_p_and_conclusion_are_those_computed_by_hand(which, request, study, model, tokenizer, task):
    found = request.getfixturevalue(which)
    network = study.networks("ica", "mlp_hidden")[found.target]
    recording = study.recording("words", "mlp_hidden")
    for kind, choice, made in (
        ("base", "as stored", lesion(network)),
        ("baseline", "mean of words", lesion(network, recording)),
        ("sinks", "first token spared", lesion(network, spare="sinks")),
    ):
        row = found.table[(found.table["kind"] == kind) & (found.table["choice"] == choice)].iloc[0]
        scores = lmri.evaluate(model, tokenizer, [task], {"one": made}, MatchedControls(19), seed=0)
        effect, low, high, p, sd = by_hand(scores.items, "one", 0)
        close = rounding(scores.items["value"], len(scores.items))
        np.testing.assert_allclose(
            row[["effect", "effect_low", "effect_high"]].tolist(), [effect, low, high], atol=close
        )
        np.testing.assert_allclose([row["p"], row["effect_sd"]], [p, effect / sd], atol=close / sd)
        assert (row["status"] == HOLDS) == (effect > 0 and p <= 0.05 and low > 0)
        assert row["n_controls"] == 19


def row_of(effect, low, high, p):
    return {"effect": effect, "effect_low": low, "effect_high": high, "p": p, "n_controls": 39, "note": ""}


@pytest.mark.parametrize(
    ("row", "higher", "status", "reason"),
    [
        (row_of(0.2, 0.1, 0.3, 0.025), False, HOLDS, ""),
        (row_of(-0.2, -0.3, -0.1, 0.025), True, HOLDS, ""),  # of an accuracy less is worse
        (row_of(-0.2, -0.3, -0.1, 0.025), False, "does not hold", "no more harm"),
        (row_of(0.2, 0.1, 0.3, 0.025), True, "does not hold", "no more harm"),
        (row_of(0.2, -0.1, 0.3, 0.025), False, "does not hold", "the interval includes 0"),
        (row_of(-0.2, -0.3, 0.1, 0.025), True, "does not hold", "the interval includes 0"),
        (row_of(0.2, 0.1, 0.3, 0.075), False, "does not hold", "p = 0.075"),
        (row_of(0.2, np.nan, np.nan, 0.025), False, "does not hold", "fewer than 5 texts"),
        (row_of(np.nan, np.nan, np.nan, np.nan), False, "does not hold", "p = nan"),
    ],
)
def test_the_conclusion_needs_direction_p_and_interval(row, higher, status, reason):
    space = NeuronSpace.build([8])
    network = Network.from_members(space, np.arange(8) < 2)
    choice = Choice("base", "", "mlp_out", "ica", 0, ("z", {"z": 3.0}))
    found = judge(Variant(choice, network), row, higher, 0.05)
    assert found[0] == status
    assert reason in found[1]


# -- choices ----------------------------------------------------------------------------------------------------------


def test_every_choice_differs_from_the_base_in_one_thing(study):
    base = Specifications(study, "ica", "mlp_hidden")
    choices = base.choices()
    assert choices[0] == base.base
    assert len({one.name for one in choices}) == len(choices)
    fields = [field.name for field in dataclasses.fields(Choice) if field.name not in ("kind", "label")]
    for one in choices[1:]:
        assert sum(getattr(one, name) != getattr(base.base, name) for name in fields) == 1
    # The base's own threshold, method, site and controls are no variants of it.
    assert [one.label for one in choices if one.kind == "threshold"] == ["z:2.5", "z:3.5", "top:0.01"]
    assert [one.label for one in choices if one.kind == "method"] == ["canica", "fastica-temporal"]
    assert [one.label for one in choices if one.kind == "baseline"] == ["mean of words", "resample of words"]
    assert [one.label for one in base.choices(["controls"])[1:]] == ["energy"]
    twice = base.choices(["seed"], seeds=[0, 4, 4])
    assert [one.name for one in twice] == ["base", "seed: seed 4"]
    assert base.notes == []
    base.choices(["seed"], seeds=[0])
    assert base.notes == ["seed was not varied: there is no alternative to the base"]


def test_standardization_and_number_of_maps_are_held_fixed(study, monkeypatch):
    made, built = [], specifications.build

    def spy(method, space, **parameters):
        made.append((method, space.site, parameters))
        return built(method, space, **parameters)

    monkeypatch.setattr(specifications, "build", spy)
    base = Specifications(study, "ica", "mlp_hidden")
    for choice in base.choices(["site", "seed", "method", "threshold", "sinks"], seeds=[7], methods=["canica"]):
        base.variant(choice)
    assert [(method, site, own["random_state"]) for method, site, own in made] == [
        ("ica", "mlp_out", 0), ("ica", "mlp_hidden", 7), ("canica", "mlp_hidden", 0),
    ]  # fmt: skip
    for _, _, own in made:
        assert (own["n_components"], own["standardize"], own["scope"]) == (4, "center", "run")
    assert [own.get("n_init") for _, _, own in made] == [3, 3, None]


def test_the_analysis_uses_the_chosen_settings(study):
    base = Specifications(study, "ica", "mlp_hidden", str(number_of(study, 0)))
    labels = {}
    for choice in base.choices(["baseline", "sinks"], baselines=["words", "resample:words:3"]):
        made = base.intervention(base.variant(choice))
        assert isinstance(made, Intervention)
        labels[choice.name] = made.label
    assert labels == {
        "base": "zero",
        "baseline: mean of words": "mean of words",
        "baseline: resample of words, seed 3": "resample of words, seed 3",
        "sinks: first token spared": "zero, first token spared",
    }


# -- nothing is dropped -----------------------------------------------------------------------------------------------


def test_failures_are_reported_in_their_row(study, model, tokenizer, task, monkeypatch):
    built = specifications.build

    def failing(method, space, **parameters):
        if method == "canica":
            raise ValueError("it broke")
        made = built(method, space, **parameters)
        if parameters["random_state"] == 1:
            fit = made.fit
            made.fit = lambda imgs, **_: (fit(imgs), made.info_["convergence"].update(n_converged=0, n_starts=3))
        return made

    monkeypatch.setattr(specifications, "build", failing)
    options = {**SHORT, "vary": ["method", "seed", "threshold"], "methods": ("canica",), "seeds": (1,)}
    options["thresholds"] = (("z", {"z": 1000.0}), ("top", {"share": 0.9}), ("fdr", {"alpha": 0.05}))
    number = str(number_of(study, 0))
    # As where a network is all there is in its layers.
    problem = staticmethod(lambda network: "no other neurons" if network.n_neurons > 100 else "")
    monkeypatch.setattr(MatchedControls, "unavailable_reason", problem)
    with pytest.warns(DataWarning, match="no other neurons"):
        found = robustness(study, model, tokenizer, [task], "ica", number, "mlp_hidden", **options)
    rows = found.table.set_index("choice")
    assert list(rows["status"]) == [HOLDS, "empty", "no controls", "no network", HOLDS, "no network"]
    assert rows.loc["canica", "reason"] == "ValueError: it broke"
    assert "comes without surrogates" in rows.loc["fdr:0.05", "reason"]
    assert rows.loc["z:1000", "reason"] == "no neuron passes the threshold"
    assert rows.loc["z:1000", "diff"] == 0
    assert "no other neurons" in rows.loc["top:0.9", "reason"]
    assert rows.loc["top:0.9", "diff"] != 0
    assert rows.loc["seed 1", "note"] == "no start of the decomposition converged"
    counts = found.survival.set_index("kind")
    columns = [f"n_{status.replace(' ', '_')}" for status in STATUSES]
    assert (counts[columns].sum(axis=1) == counts["n_variants"]).all()
    assert counts.loc["all", columns].tolist() == [1, 0, 0, 1, 1, 2]
    figure = robustness_figure(found.table)  # rows without numbers have a line of their own, too
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert {"empty", "no controls", "no network"} <= set(shown)


def test_networks_that_a_person_chose_cannot_be_chosen_again(study):
    networks = study.networks("ica", "mlp_hidden")
    origin = dataclasses.replace(networks.origin, threshold={"method": "accepted", "description": "by hand"})
    study.save_networks(dataclasses.replace(networks, origin=origin), "ica", "by-hand")
    with pytest.raises(StudyError, match=r"'by-hand' were selected by 'accepted'.*lmri threshold"):
        Specifications(study, "by-hand", "mlp_hidden")


def test_bad_choices_are_refused_before_anything_is_run(study):
    def ask(**options):
        robustness(study, None, None, [], "ica", site="mlp_hidden", **options)

    for options, message in (
        ({"n_controls": 18}, "n_controls is 18, too few for any p to reach 0.05. Give at least 19"),
        ({"alpha": 0.01, "n_controls": 98}, "Give at least 99"),
        ({"alpha": 1.5}, "alpha is 1.5; it must be between 0 and 1"),
        ({"vary": ["size"]}, "vary contains 'size'; choose from site, baseline"),
        ({"methods": ["pca"]}, "methods contains 'pca'; choose from ica"),
        ({"thresholds": [("p", {})]}, "thresholds contains 'p'; choose from fdr"),
        ({"baselines": ["resample:"]}, "The baseline is 'resample:'; choose from zero"),
        ({"baselines": ["other"]}, "other"),
        ({"controls": "index"}, "controls contains 'index'; choose from layer, energy"),
        ({"network": "9"}, "network is '9'; accepted values are 'union', numbers from 0 to 3"),
    ):
        with pytest.raises(ValueError, match=message):
            ask(**options)


# -- outcome, figure and command --------------------------------------------------------------------------------------


def test_the_outcome_has_every_row_and_the_same_figure_every_time(positive):
    outcome = positive.to_outcome()
    assert outcome.experiment == "robustness"
    assert len(outcome.tables["specifications"]) == len(outcome.layouts["specifications"]) == len(positive.table)
    assert list(outcome.tables) == ["specifications", "survival"]
    again = drawing(robustness_figure(positive.table))
    assert again.svg == outcome.figures["robustness"].svg
    assert again.png == outcome.figures["robustness"].png
    for text in ("not independent replications", "One model is one subject", "none was selected"):
        assert text in outcome.text


def test_every_task_has_its_rows_and_its_panel(positive):
    other = positive.table.assign(task="other", status="does not hold")
    both = Robustness(pd.concat([positive.table, other]), "ica-00", "ica", "mlp_hidden")
    totals = both.survival[both.survival["kind"] == "all"].set_index("task")["n_holds"]
    assert totals.to_dict() == {"held-out": 11, "other": 0}
    titles = [axis.get_title(loc="left") for axis in robustness_figure(both.table).axes]
    assert titles == ["held-out: 11 of 11 variants hold", "other: 0 of 11 variants hold"]


def test_thresholds_are_written_as_the_command_takes_them():
    assert threshold_label(("top", {"share": 0.01})) == "top:0.01"
    assert threshold_label(("support", {})) == "support"


def test_the_command_runs_stores_and_writes(study, model, tokenizer, tmp_path, monkeypatch):
    root = tmp_path / "study"
    shutil.copytree(study.root, root)
    monkeypatch.setattr("lmri.models.study_model.ModelSource.load", lambda *_: (model, tokenizer))
    options = ["robustness", str(root), "--networks", "ica", "--site", "mlp_hidden", "--n-controls", "19"]
    options += ["--network", str(number_of(study, 0)), "--vary", "threshold,sinks", "--thresholds", "z:2.5,z:3"]
    dry = CliRunner().invoke(app, [*options, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "3 specifications: base; threshold: z:2.5; sinks: first token spared." in dry.output
    assert "Nothing was stored" in dry.output
    made = CliRunner().invoke(app, [*options, "--json", "--out", str(tmp_path / "out")])
    assert made.exit_code == 0, made.output
    result = json.loads(made.stdout)
    assert [row["status"] for row in result["specifications"]] == [HOLDS] * 3
    assert result["survival"][0]["n_holds"] == 2
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"specifications.tsv", "survival.tsv", "specifications.md", "robustness.svg", "robustness.png"} <= names
    stored = lmri.open_study(root).experiment(result["name"], "mlp_hidden")
    assert stored.tables["specifications"]["status"].tolist() == [HOLDS] * 3
    for wrong, message in (
        (["--seeds", "1,x"], "--seeds contains 'x'"),
        (["--thresholds", "q:1"], "There is no threshold 'q'"),
        (["--out", str(tmp_path / "out")], "exists"),
    ):
        failed = CliRunner().invoke(app, [*options, *wrong])
        assert failed.exit_code == 1
        assert message in " ".join(failed.output.split())
