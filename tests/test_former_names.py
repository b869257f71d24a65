"""Former names of attributes and parameters give the results of the new names, and warn; lmri does not use them."""

import ast
import copy
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lmri
from lmri import Network, NetworkSet, NeuronSpace, Origin
from lmri.exceptions import NotThresholdedError
from lmri.rois import RoiSet

SPACE = NeuronSpace.build([4, 4])
WEIGHTS = np.arange(8, dtype=np.float32)
MEMBERS = WEIGHTS > 5
NETWORK = Network(SPACE, WEIGHTS, MEMBERS, stat_type="t")
RESULTS = {
    "method": "ica", "parameters": {"scope": "run"}, "n_runs": 2, "dead_neurons": [], "convergence": {"n_starts": 1},
    "level": "within", "seconds": 1.5, "threshold": {"method": "z", "z": 3.0},
}  # fmt: skip
SET = NetworkSet(SPACE, WEIGHTS[None], MEMBERS[None], origin=Origin.of(RESULTS))
ROIS = RoiSet.of([NETWORK])

ATTRIBUTES = {"strength": "stat_map", "stat": "stat_type", "mask": "members"}

OTHER = {
    ("decomposition/nilearn.py", "mask"): "masker.mask",  # a parameter of nilearn
    ("report/figures.py", "strength"): "consensus.strength",
    ("decomposition/phantom/options.py", "strength"): "PlantingOptions.strength",
    ("decomposition/phantom/planting.py", "strength"): "PlantingOptions.strength",
    ("networks/annotation/labels.py", "info"): "Annotation.info",
}
"""Attributes with the same name that belong to other objects."""


def alias_warning(owner, old, new):
    message = f"lmri.{owner}.{old} is deprecated and will be removed in lmri 0.2. Use lmri.{owner}.{new} instead."
    return pytest.warns(DeprecationWarning, match=f"^{message}$".replace(".", r"\."))


def parameter_warning(owner, old, new):
    message = f"The parameter {old} of lmri.{owner} is deprecated and will be removed in lmri 0.2. Use {new} instead."
    return pytest.warns(DeprecationWarning, match=f"^{message}$".replace(".", r"\."))


@pytest.mark.parametrize(("old", "new"), ATTRIBUTES.items())
@pytest.mark.parametrize("networks", [NETWORK, SET, ROIS], ids=["Network", "NetworkSet", "RoiSet"])
def test_a_former_attribute_has_the_same_value_and_warns_where_it_is_used(networks, old, new):
    owner = "Network" if isinstance(networks, Network) else "NetworkSet"
    with alias_warning(owner, old, new) as warned:
        value = getattr(networks, old)
    np.testing.assert_array_equal(value, getattr(networks, new))
    assert [warning.filename for warning in warned] == [__file__]


def test_the_former_mask_is_none_before_a_threshold():
    for networks, owner in ((Network(SPACE, WEIGHTS), "Network"), (NetworkSet(SPACE, WEIGHTS[None]), "NetworkSet")):
        with alias_warning(owner, "mask", "members"):
            assert networks.mask is None
        assert not networks.is_thresholded
        with pytest.raises(NotThresholdedError, match="Threshold first"):
            _ = networks.members


def test_the_former_info_has_the_same_content_and_cannot_be_changed():
    with alias_warning("NetworkSet", "info", "origin") as warned:
        info = SET.info
    assert [warning.filename for warning in warned] == [__file__]
    assert dict(info) == SET.origin.as_dict() == RESULTS
    assert list(info) == list(RESULTS)
    assert info.get("contrast") is None
    assert {**info, "level": "between"}["level"] == "between"
    with pytest.raises(TypeError):
        info["level"] = "between"


def test_the_former_info_of_stored_results_is_what_the_study_holds(walked):
    for entry in walked.entries.list("networks"):
        networks, source = walked.networks(entry.name, entry.site), entry.inputs["decomposition"]
        with pytest.warns(DeprecationWarning, match="NetworkSet.info"):
            info = dict(networks.info)
        assert info.pop("seconds") > 0
        assert info == {**walked.find("decompositions", source, entry.site).results, "threshold": entry.parameters}


def test_results_at_the_place_of_the_former_info_are_converted():
    assert NetworkSet(SPACE, WEIGHTS[None], MEMBERS[None], "networks", SET.metrics, RESULTS).origin == SET.origin


def test_networks_without_a_known_threshold_are_not_stored(walked):
    networks = replace(walked.networks("canica"), origin=Origin("canica"))
    with pytest.raises(ValueError, match="identifies stored networks"):
        walked.save_networks(networks, "canica", "unknown")


@pytest.mark.parametrize(
    ("cls", "arguments", "old", "new", "value"),
    [
        (Network, (SPACE, WEIGHTS), "mask", "members", MEMBERS),
        (Network, (SPACE, WEIGHTS), "stat", "stat_type", "t"),
        (NetworkSet, (SPACE, WEIGHTS[None]), "mask", "members", MEMBERS[None]),
        (RoiSet, (SPACE, WEIGHTS[None]), "mask", "members", MEMBERS[None]),
        (NetworkSet, (SPACE, WEIGHTS[None]), "info", "origin", RESULTS),
        (RoiSet, (SPACE, WEIGHTS[None]), "info", "origin", RESULTS),
    ],
)
def test_a_former_parameter_is_accepted_alone_and_warns_where_it_is_used(cls, arguments, old, new, value):
    original, expected = cls(*arguments), cls(*arguments, **{new: value})
    with parameter_warning(cls.__name__, old, new) as warned:
        constructed = cls(*arguments, **{old: value})
    with parameter_warning(cls.__name__, old, new) as warned_by_replace:
        replaced = replace(original, **{old: value})
    assert [warning.filename for warning in (*warned, *warned_by_replace)] == [__file__] * 2
    for networks in (constructed, replaced):
        np.testing.assert_array_equal(getattr(networks, new), getattr(expected, new))
    with (
        parameter_warning(cls.__name__, old, new),
        pytest.raises(TypeError, match=f"{old} and {new} are the same parameter"),
    ):
        cls(*arguments, **{old: value, new: value})


def test_current_names_and_copies_give_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for networks in (NETWORK, SET, ROIS):
            for new in ATTRIBUTES.values():
                getattr(networks, new)
            for same in (copy.copy(networks), copy.deepcopy(networks), pickle.loads(pickle.dumps(networks))):
                np.testing.assert_array_equal(same.members, networks.members)
            assert not replace(networks, members=None).is_thresholded
            assert not replace(replace(networks, members=None), fit_texts=frozenset("a")).is_thresholded
            assert replace(networks, fit_texts=frozenset("a")).members is networks.members
            repr(networks)


def _uses(tree):
    """List attributes that are read but not called, and keywords of constructors, under a former name."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {*ATTRIBUTES, "info"} and id(node) not in called:
            owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
            if node.attr in ATTRIBUTES or owner in ("networks", "maps", "original"):
                yield node.attr
        if isinstance(node, ast.Call):
            function = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if function in ("Network", "NetworkSet", "RoiSet", "replace", "cls"):
                yield from (keyword.arg for keyword in node.keywords if keyword.arg in {*ATTRIBUTES, "info"})


def test_no_module_of_lmri_uses_a_former_name():
    root = Path(lmri.__file__).parent
    found = {
        (path.relative_to(root).as_posix(), name)
        for path in root.rglob("*.py")
        for name in _uses(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set(OTHER)


def test_the_check_of_modules_detects_uses():
    code = (
        "networks.strength; network.stat; network.mask; self.networks.info; NetworkSet(a, mask=b); replace(a, stat=b)"
    )
    code += "; layout.mask(); recording.info; path.stat()"  # other objects
    assert sorted(_uses(ast.parse(code))) == ["info", "mask", "mask", "stat", "stat", "strength"]


def test_a_use_within_lmri_is_an_error_in_tests():
    code = compile("networks.stat", "module.py", "exec")
    with pytest.raises(DeprecationWarning, match="stat_type"):
        exec(code, {"__name__": "lmri.example", "networks": SET})
