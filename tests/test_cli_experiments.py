"""Families of controls, donor lesions and dissociations on the command line."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

import lmri
from lmri import EnergyMatchedControls
from lmri.cli.app import app
from lmri.models.sites import projections
from lmri.study import open_study
from tolerances import relative
from walking import two_of

pytestmark = pytest.mark.filterwarnings("ignore")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def study(walked, tmp_path_factory):
    """Return a copy of the complete study, for writing, with two networks that are fast to lesion."""
    root = tmp_path_factory.mktemp("experiments") / "study"
    shutil.copytree(walked.root, root)
    opened = open_study(root)
    opened.save_networks(two_of(opened.networks("canica")), "canica", "pair")
    return root


def scored(study, name, *options, kind="lesion"):
    done = run(kind, study, "--networks", "pair", "--n-controls", "2", "--name", name, *options, "--json")
    assert done.exit_code == 0, done.output
    return open_study(study).scores(name)


def energy_scores(study):
    """Score with controls of equal energy, unless another test has done so: the same command computes nothing again."""
    return scored(study, "energy", "--controls", "energy")


def made_of(study, name):
    return open_study(study).entries.find("scores", name, None)


def conditions(study, name):
    return made_of(study, name).inputs["conditions"]


def test_controls_can_be_matched_by_what_the_lesion_removes(study):
    scores = energy_scores(study)
    families = set(scores.conditions["control_family"]) - {""}
    assert families == {"layer+size+energy"}
    made = made_of(study, "energy")
    assert made.parameters["controls"] == "energy"
    assert made.inputs["controls"]["n"] == 2
    outcome = open_study(study).experiment("energy")
    balance = outcome.tables["balance"]
    assert (balance["smd_after"].abs() <= balance["smd_before"].abs() + 0.1).all()
    assert "Removed energy differs between networks and controls" in outcome.text


@pytest.mark.parametrize("baseline", ["zero", "news", "resample:news:2"])
def test_energy_controls_are_measured_on_the_fitted_corpora_and_against_the_lesions_own_baseline(
    study, monkeypatch, baseline
):
    made = []
    measured = EnergyMatchedControls.measured.__func__
    monkeypatch.setattr(
        EnergyMatchedControls,
        "measured",
        classmethod(lambda cls, *given: made.append(measured(cls, *given)) or made[-1]),
    )
    done = run("lesion", study, "--networks", "pair", "--controls", "energy", "--n-controls", "1", "--baseline",
               baseline, "--name", f"by-number-{baseline.replace(':', '-')}", "--quiet")  # fmt: skip
    assert done.exit_code == 0, done.output
    opened = open_study(study)
    tokens = {one.corpus: np.concatenate(list(one.arrays())).astype(float) for one in opened.group("mlp_hidden")}
    both = np.concatenate([tokens["code"], tokens["news"]])  # what the networks were found in
    if baseline == "zero":
        expected = (both**2).mean(0)
    elif baseline == "news":
        expected = ((both - tokens["news"].mean(0)) ** 2).mean(0)
    else:  # over all pairs of a token and its donor
        expected = both.var(0) + tokens["news"].var(0) + (both.mean(0) - tokens["news"].mean(0)) ** 2
    model, _ = lmri.load_model("lmri-demo")
    space = opened.networks("canica").space
    norms = np.concatenate([p.weight.detach().double().pow(2).sum(1).numpy() for p in projections(model, space)])
    np.testing.assert_allclose(made[0].energy, expected * norms, rtol=relative(len(both), np.float32))


def test_a_control_family_invalid_at_a_site_is_refused_before_scoring(study):
    done = run("lesion", study, "--networks", "pair", "--controls", "index", "--n-controls", "2", "--name", "index")
    assert done.exit_code != 0
    assert "mlp_out" in " ".join(done.output.split())
    with pytest.raises(Exception, match="index"):
        open_study(study).scores("index")
    done = run("lesion", study, "--networks", "pair", "--controls", "size")
    assert "--controls is 'size'; choose from layer, energy, index" in " ".join(done.output.split())


def test_silenced_neurons_can_have_their_value_at_another_token(study):
    one, other = (scored(study, f"donor{seed}", "--baseline", f"resample:news:{seed}") for seed in (0, 1))
    intact, lesioned = (one.items[one.items["condition"] == name]["value"].to_numpy() for name in ("intact", "pair-00"))
    assert (intact != lesioned).any()
    assert len(other.items) == len(one.items)
    assert conditions(study, "donor0") != conditions(study, "donor1")
    for bad in ("resample:", "resample:news:x", "resample:poems"):
        done = run("lesion", study, "--networks", "pair", "--baseline", bad, "--name", "bad")
        assert done.exit_code != 0


def test_an_offset_along_the_sign_is_another_intervention(study):
    for name, options in (("plain", ()), ("signed", ("--along-sign",))):
        scored(study, name, "--offset", "1.0", *options, kind="amplify")
    assert conditions(study, "plain") != conditions(study, "signed")


def test_the_report_says_what_controls_have_in_common_with_their_network(study, tmp_path):
    energy_scores(study)
    done = run("report", study, "--out", tmp_path / "report.html")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report.html").read_text()
    assert (
        "the same number of neurons in every layer as the network, and a lesion that removes about the same energy"
        in page
    )


def test_named_tasks_are_scored_as_asked_and_on_their_split(study, tmp_path):
    file = tmp_path / "own.jsonl"
    rows = [{"sentence": f"code {n} news", "label": n % 2} for n in range(40)]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    task = ["--task", f"sst2:{file}", "--n-controls", "0", "--networks", "pair"]
    for name, split, scoring in (("whole", "", "loglikelihood"), ("part", "test", "loglikelihood/token")):
        done = run("lesion", study, *task, "--name", name, "--split", split, "--scoring", scoring)
        assert done.exit_code == 0, done.output
        row = open_study(study).scores(name).summary().iloc[0]
        assert (row["split"], row["scoring"]) == (split, scoring)
        assert row["n_items"] == 40 if not split else 0 < row["n_items"] < 40
    done = run("lesion", study, *task, "--name", "bad", "--scoring", "guess")
    assert "guess" in done.output
    assert done.exit_code != 0


def test_a_classifier_is_not_scored_on_what_it_has_learned(study, tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed: pip install 'lmri[finetune]'")
    file, child = tmp_path / "own.jsonl", tmp_path / "child"
    rows = [{"sentence": f"{'code' if n % 2 else 'news'} {n}", "label": n % 2} for n in range(60)]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    done = run("finetune", "lmri-demo", "--task", "sst2", "--data", file, "--max-steps", "1", "--out", child)
    assert done.exit_code == 0, done.output
    task = [
        "--networks",
        "pair",
        "--model",
        child,
        "--task",
        f"sst2:{file}",
        "--scoring",
        "head",
        "--n-controls",
        "0",
    ]
    done = run("lesion", study, *task, "--name", "all-of-it")
    assert done.exit_code != 0
    assert "was fine-tuned on" in " ".join(done.output.split())
    done = run("lesion", study, *task, "--name", "held-out", "--split", "test")
    assert done.exit_code == 0, done.output
    assert open_study(study).scores("held-out").summary()["scoring"].unique().tolist() == ["head"]


def test_a_dry_run_counts_what_would_be_scored_and_stores_nothing(study):
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*") if path.name != "log.jsonl"}
    done = run(
        "lesion", study, "--networks", "pair", "--baseline", "code", "--n-controls", "7", "--name", "dry",
        "--dry-run", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    cost = json.loads(done.stdout)
    networks = open_study(study).networks("pair")
    filled = int(networks.members.any(axis=1).sum())
    assert {row["task"] for row in cost["cost"]} == {"perplexity-code", "perplexity-news"}
    # The intact model, each network and their union with their controls, and the paper's random share.
    assert {row["n_evaluations"] for row in cost["cost"]} == {1 + (filled + 1) * 8 + 1}
    assert cost["total_seconds"] == pytest.approx(sum(row["seconds"] * row["n_evaluations"] for row in cost["cost"]))
    assert before == {path: path.stat().st_mtime_ns for path in study.rglob("*") if path.name != "log.jsonl"}


def test_dissociations_are_found_among_stored_lesions_or_it_says_what_is_missing(study, tmp_path):
    energy_scores(study)
    few = run("dissociate", study, "energy")
    assert few.exit_code != 0
    assert "has 2 controls; with fewer than 19" in " ".join(few.output.split())
    done = run(
        "lesion",
        study,
        "--networks",
        "pair",
        "--n-controls",
        "19",
        "--name",
        "many",
        "--task",
        "perplexity",
        "--quiet",
    )
    assert done.exit_code == 0, done.output
    out = tmp_path / "tables"
    done = run("dissociate", study, "many", "--out", out, "--network", "pair-00", "--network", "pair-01", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert len(found["dissociations"]) == 1
    assert {row["task"] for row in found["effects"]} == {"perplexity-code", "perplexity-news"}
    expected = {"dissociations.tsv", "effects.tsv", "effects.svg", "effects.png", "outcome.json"}
    assert {path.name for path in out.iterdir()} == expected


def test_several_families_seeds_and_spared_tokens_are_asked_for_at_once(study):
    options = ("--controls", "layer", "--controls", "energy", "--baseline", "resample:news", "--n-seeds", "3")
    scores = scored(study, "many-ways", *options, "--spare", "sinks")
    summary = scores.summary()
    own = summary[(summary["condition"] == "pair-00") & (summary["task"] == "perplexity-code")]
    assert own["control_family"].tolist() == ["layer+size", "layer+size+energy"]
    assert own["n_repeats"].tolist() == [3, 3]
    assert (own["sd_repeats"] > 0).all()
    shown = made_of(study, "many-ways").parameters
    assert (shown["controls"], shown["n_seeds"], shown["spare"]) == (["layer", "energy"], 3, "sinks")
    for bad, said in (
        (("--n-seeds", "3"), "--n-seeds is 3; it must be 1, or a larger number with --baseline resample:CORPUS"),
        (("--controls", "layer", "--controls", "layer"), "each at most once"),
        (("--stop-after", "-2"), "--stop-after is -2"),
        (("--spare", "ends"), "ends"),
    ):
        done = run("lesion", study, "--networks", "pair", "--name", "bad", *bad)
        assert done.exit_code != 0
        assert said in " ".join(done.output.split())


def test_a_lesion_is_written_up_beside_its_scores(study, tmp_path):
    out = tmp_path / "lesions"
    scored(study, "written", "--stop-after", "1", "--out", out)
    outcome = open_study(study).experiment("written")
    assert "Controls have the same number of neurons in every layer" in outcome.text
    assert {path.suffix for path in out.iterdir()} == {".tsv", ".md", ".svg", ".png", ".json"}
    again = run("lesion", study, "--networks", "pair", "--n-controls", "2", "--name", "written", "--stop-after", "1",
                "--out", out)  # fmt: skip
    assert again.exit_code != 0  # nothing is overwritten
    assert "exists" in again.output


def test_more_controls_cost_only_themselves(study):
    scored(study, "few", "--seed", "7")
    dry = ("lesion", study, "--networks", "pair", "--seed", "7", "--name", "more", "--dry-run", "--json")
    cost = json.loads(run(*dry, "--n-controls", "5").stdout)["cost"]
    n_networks = int(open_study(study).networks("pair").members.any(axis=1).sum()) + 1
    assert {row["n_evaluations"] for row in cost} == {1 + 3 * n_networks}


def test_the_papers_choices_are_made_together_or_not_at_all(study):
    done = run("lesion", study, "--paper", "--paper-model", "gpt2", "--json")
    assert done.exit_code == 0, done.output
    opened = open_study(study)
    networks = opened.networks("paper-parity")
    assert networks.origin.method == "fastica-temporal"
    scores = opened.scores("lesion-paper-parity")
    assert set(scores.conditions["kind"]) == {"intact", "network", "union", "random"}
    assert opened.experiment("lesion-paper-parity").title.startswith("Paper parity")
    for options, said in (
        (("--paper", "--controls", "layer"), "--paper sets"),
        (("--paper", "--networks", "pair"), "was not computed as in the paper"),
        ((), "There is nothing to lesion"),
    ):
        done = run("lesion", study, *options)
        assert done.exit_code != 0
        assert said in " ".join(done.output.split())
    again = run("decompose", study, "--paper", "--quiet")
    assert again.exit_code == 0, again.output
    other = run("decompose", study, "--paper", "--method", "canica")
    assert "--paper sets method" in " ".join(other.output.split())


def test_early_stopped_or_larger_controls_give_no_dissociation(study):
    for name, options in (("early", ("--stop-after", "1")), ("shared", ("--controls", "shared"))):
        done = run("lesion", study, "--networks", "pair", "--n-controls", "19", "--name", name, *options, "--quiet")
        assert done.exit_code == 0, done.output
    said = " ".join(run("dissociate", study, "early").output.split())
    assert "stopped early" in said
    assert "--stop-after 0" in said
    assert "All controls are shared" in " ".join(run("dissociate", study, "shared").output.split())


def test_a_lesion_can_be_written_up_another_way(study, tmp_path):
    words = ("lesion", study, "--networks", "pair", "--n-controls", "2", "--name", "another-way", "--json")
    assert run(*words).exit_code == 0
    again = run(*words, "--paper-model", "gpt2", "--out", tmp_path / "out")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "out" / "scores.tsv").is_file()


def test_a_lesion_keeps_to_the_places_that_are_named(study):
    whole = scored(study, "everywhere", "--controls", "layer").summary()
    first = scored(study, "first-only", "--controls", "layer", "--positions", "0").summary()
    assert made_of(study, "first-only").parameters["positions"] == [0]
    own = [one[(one["condition"] == "pair-union")].set_index("task")["value"] for one in (whole, first)]
    assert (own[0] != own[1]).all()
    done = run("lesion", study, "--networks", "pair", "--name", "bad", "--positions", "middle", "--n-controls", "1")
    assert done.exit_code != 0
    assert "positions is 'middle'" in " ".join(done.output.split())
