"""Workflow of the demo: all stages on the embedded model, at both sites, with one printed line per result."""

from pathlib import Path
from typing import Any

import pandas as pd

from lmri.cli.console import Output, format_convergence, quote, records
from lmri.cli.scores import pivot_by_task
from lmri.demo.texts import KINDS, generate
from lmri.lesions.controls import ControlOptions
from lmri.lesions.plans import plan_networks
from lmri.lesions.requests import Request
from lmri.lesions.scores import ALPHA, INTACT
from lmri.models.study_model import ModelSource
from lmri.networks.comparison import compare
from lmri.study import Study, open_study

SITES = ("mlp_hidden", "mlp_out")
METHODS = ("ica", "fastica-temporal")
CHOSEN = "ica-z3"
"""Name of the lesioned networks, thresholded at |z| > 3: a descriptive threshold, because networks are often empty at
the fdr threshold, and the effect of a lesion is tested against controls."""

N_TEXTS = 20
N_COMPONENTS = 5
N_CONTROLS = 20
SEED = 2026
"""Seed of the texts; the training texts of the model come from another seed."""


def walk(out: Path, output: Output) -> None:
    """Run all stages: record, decompose, compare, lesion and report.

    Parameters
    ----------
    out : Path
        Folder of the study; results that are already stored are not computed again.
    output : Output
        Output of the command.
    """
    with output.progress("Loading the embedded model"):
        import torch

        from lmri.models import EMBEDDED, load_model
        from lmri.models.recorder import record

        # More threads do not speed up such a small model, and on a busy machine they wait for each other.
        torch.set_num_threads(1)
        model, tokenizer = load_model(EMBEDDED)
    output.say(f"{EMBEDDED}: a GPT-2 of {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters.")
    for site in SITES:
        for kind in KINDS:
            texts = generate(kind, N_TEXTS, SEED)
            with output.progress(f"Recording {kind} at {site}") as progress:
                recording = record(model, tokenizer, texts, out, corpus=kind, site=site, progress=progress)
                open_study(out).qc(corpus=kind, site=site)
        output.say(
            f"\n{site}: {recording.space.describe()}; {N_TEXTS} texts of each kind ({', '.join(KINDS)}), "
            f"{len(recording.test_texts)} of them held out."
        )
        _one_site(open_study(out), site, model, tokenizer, output)
    study = open_study(out)
    with output.progress("Writing the report"):
        path = study.report()
    output.say(f"\nReport: {path}\nOpen the study in a browser: lmri view {quote(out)}")
    output.result({"study": str(out), "report": str(path), "scores": {site: _summary(study, site) for site in SITES}})


def _summary(study: Study, site: str) -> list[dict[str, object]]:
    return records(study.scores(f"lesion-{CHOSEN}", site).summary())


def _one_site(study: Study, site: str, model: Any, tokenizer: Any, output: Output) -> None:
    for method in METHODS:
        with output.progress("Decomposing"):
            networks = study.decompose(method, N_COMPONENTS, site=site, threshold=f"fdr:{ALPHA}")
        sizes = networks.members.sum(axis=1)
        descriptive = study.decomposition(method, site).threshold("z", z=3.0).members.sum(axis=1)
        convergence = networks.origin.convergence
        output.say(
            f"  {method}: {len(networks)} maps, {format_convergence(convergence)}; "
            f"neurons per map at {ALPHA:.0%} FDR (surrogate-calibrated): {', '.join(map(str, sizes))}; "
            f"{(sizes > 0).sum()} of {len(networks)} networks are non-empty (at |z| > 3, without error control: "
            f"{', '.join(map(str, descriptive))})."
        )
    with output.progress("Comparing"):
        comparison = compare(study.networks(METHODS[0], site), study.networks(METHODS[1], site))
        study.save_comparison(comparison, 0)
    n_above = int(comparison.table["above_null"].sum())
    output.say(
        f"  maps matched one to one: mean |r| = {comparison.mean_r:.2f} (null of arbitrary unmixings: mean "
        f"{comparison.null_mean:.2f}, 95th percentile {comparison.null_95:.2f}); {n_above} of {len(comparison.table)} "
        "pairs exceed the null."
    )
    study.save_networks(study.decomposition("ica", site).threshold("z", z=3.0), "ica", CHOSEN)
    request = Request("lesion", {"baseline": "zero"}, CHOSEN, controls=ControlOptions(n=N_CONTROLS))
    with output.progress("Scoring") as progress:
        scores = plan_networks(study, request, site).run(ModelSource((model, tokenizer)), progress=progress).scores
    summary = scores.summary()
    output.table(
        pivot_by_task(summary),
        "  Lesions of neurons with |z| > 3: change in nats/token relative to intact, p relative to matched controls",
    )
    lesioned = summary[(summary["condition"] != INTACT) & summary["p"].notna()]
    output.say(
        f"  {_count(lesioned)} (the smallest possible p is {scores.p_floor:.3f}; "
        f"a single network can only reach q ≤ {ALPHA} with at least {scores.controls_needed} controls)."
        if len(lesioned)
        else "  Every network is empty: there were no neurons to lesion."
    )


def _count(lesioned: pd.DataFrame) -> str:
    at_floor = lesioned[lesioned["p"] <= 1 / (1 + lesioned["n_controls"]) + 1e-12]
    return (
        f"{len(at_floor)} of {len(lesioned)} lesions did more harm than all {N_CONTROLS} of their controls; "
        f"{int((lesioned['q'] <= ALPHA).sum())} reached q ≤ {ALPHA}"
    )
