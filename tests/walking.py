"""Small end-to-end workflow: the embedded model reads two corpora, and every kind of entry is created."""

from dataclasses import replace
from pathlib import Path

from threadpoolctl import threadpool_limits

import lmri
from lmri import CanICA, FastICA, MatchedControls, NetworkSet, Study
from lmri.demo.texts import generate
from lmri.lesions.tasks import Classification, Perplexity

CORPORA = ("code", "news")
NASTY = "<script>alert(1)</script> & \"quoted\" 'text'\twith\ttabs & NA null &amp; {{ 7 * 7 }}"


def walk(root: Path) -> Study:
    """Record, decompose, compare, lesion and report on one thread, because parallel sums differ in their last bits."""
    with threadpool_limits(1):
        return _walk(root)


def _walk(root: Path) -> Study:
    model, tokenizer = lmri.load_model("lmri-demo")
    for corpus in CORPORA:
        texts = [f"{NASTY} {text}" if number % 3 == 0 else text for number, text in enumerate(generate(corpus, 20, 5))]
        lmri.record(model, tokenizer, texts, root, corpus=corpus, site="mlp_hidden", run_tokens=400)
    study = lmri.open_study(root)
    recordings = study.group()
    space = recordings[0].space
    imgs = [img for recording in recordings for img in recording.imgs]
    for estimator in (CanICA(space, 4), FastICA(space, 4)):
        study.save_decomposition(estimator.fit(imgs), recordings)
        networks = study.decomposition(estimator.method_name).threshold("z", z=3.0)
        study.save_networks(networks, estimator.method_name)
    # An empty network set is a valid result, and all later steps must accept it.
    study.save_networks(study.decomposition("canica").threshold("z", z=1000.0), "canica", "nothing")
    study.save_comparison(lmri.compare(study.networks("canica"), study.networks("fastica-temporal")), seed=0)
    tests = {recording.corpus: recording.test_texts for recording in recordings}
    labels = [corpus for corpus, texts in tests.items() for _ in texts]
    tasks = [
        *(Perplexity(texts, f"perplexity-{corpus}") for corpus, texts in tests.items()),
        Classification(
            [text[:100] for texts in tests.values() for text in texts],
            labels,
            {"code": " return", "news": " said"},
            "{text}",
            name="kind",
        ),
    ]
    for name in ("canica", "nothing"):
        conditions = lmri.conditions_of(study.networks(name), lmri.lesion)
        scores = lmri.evaluate(model, tokenizer, tasks, conditions, MatchedControls(3), seed=0)
        study.save_scores(scores, f"lesion-{name}", "mlp_hidden", name, {"intervention": "lesion"})
    study.report()
    return study


def two_of(networks: NetworkSet) -> NetworkSet:
    """Empty all networks except the first two, because empty networks are not scored."""
    members = networks.members.copy()
    members[2:] = False
    return replace(networks, members=members)
