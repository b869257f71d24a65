"""Complete workflow: files depend only on texts, model, parameters and versions."""

import json

import numpy as np
import pytest
from nilearn.maskers import NiftiMasker
from nilearn.plotting import plot_stat_map

import lmri
from walking import walk


def _files(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore")
def test_the_same_commands_give_the_same_bytes(walked, tmp_path):
    first, second = _files(walked.root), _files(walk(tmp_path / "again").root)
    log = walked.layout.log.relative_to(walked.root)
    assert first.keys() == second.keys()
    assert log in first
    assert [path for path in first if path != log and first[path] != second[path]] == []


def test_every_image_of_a_study_opens_in_nilearn_unmodified(walked):
    mask = walked.recording("news").mask_img
    images = [*walked.root.rglob("*.nii"), *walked.root.rglob("*.nii.gz")]
    kinds = {path.name.split("_")[-1] for path in images}
    assert kinds == {"bold.nii", "mask.nii.gz", "dseg.nii.gz", "layers.nii.gz", "components.nii.gz", "mean.nii.gz",
                     "weights.nii.gz", "members.nii.gz", "statmap.nii.gz"}  # fmt: skip
    for path in images:
        values = NiftiMasker(mask, standardize=None).fit().transform(path)
        assert np.isfinite(values).all()
    volume = next(path for path in images if "network-00" in path.name)
    cuts = list(range(walked.space().n_layers))
    plot_stat_map(volume, bg_img=None, display_mode="z", cut_coords=cuts, draw_cross=False).close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_walk_on_a_trained_model_and_real_texts(real_data, tmp_path):
    folder = real_data / "models" / "mini-gpt2"
    model, tokenizer = lmri.load_model(folder)
    for kind in ("news", "math"):
        lines = (folder / f"heldout_{kind}.jsonl").read_text(encoding="utf-8").splitlines()[:40]
        texts = [json.loads(line)["text"] for line in lines]
        recording = lmri.record(model, tokenizer, texts, tmp_path / "study", corpus=kind, site="mlp_hidden")
    study = lmri.open_study(tmp_path / "study")
    imgs = [img for one in study.group() for img in one.imgs]
    temporal = lmri.FastICA(recording.space, 10).fit(imgs)
    spatial = lmri.CanICA(recording.space, 10).fit(imgs)
    found = lmri.compare(*(lmri.NetworkSet.from_estimator(one).threshold() for one in (temporal, spatial)))
    # Two methods agree on this model far beyond what two bases of one subspace would.
    assert found.mean_r > found.null_95 + 0.1
    networks = lmri.NetworkSet.from_estimator(temporal).threshold("z", z=3.0)
    tasks = [lmri.lesions.tasks.Perplexity(study.recording("math").test_texts, "math")]
    conditions = {"union": lmri.lesion(networks.union())}
    row = lmri.evaluate(model, tokenizer, tasks, conditions, lmri.MatchedControls(5)).summary().iloc[1]
    # The union of networks costs more than as many neurons of the same layers (positive control: both cost something).
    assert row["diff"] > row["control_mean"] > 0
    assert row["ci_low"] > 0
