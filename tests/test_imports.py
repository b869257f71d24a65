"""Half of the package works without torch, which takes seconds to load."""

import inspect
import subprocess
import sys

import pytest


def _loaded(code: str, modules: tuple[str, ...] = ("torch", "transformers")) -> set[str]:
    """Run `code` in a fresh process, and return which of the heavy modules it loaded."""
    program = f"import sys\n{code}\nprint(*(name for name in {modules!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_alone_loads_nothing_heavy():
    heavy = ("numpy", "pandas", "nibabel", "nilearn", "sklearn", "scipy", "matplotlib", "torch", "transformers")
    assert _loaded("import lmri", heavy) == set()
    assert _loaded("import lmri; lmri.NetworkSet", heavy) >= {"numpy", "pandas"}


def test_importing_the_package_loads_no_torch():
    assert _loaded("import lmri; lmri.NeuronSpace; lmri.CanICA; lmri.NetworkSet; lmri.MatchedControls") == set()


def test_opening_and_reporting_a_study_loads_no_torch(walked, tmp_path):
    code = (
        f"import lmri; study = lmri.open_study({str(walked.root)!r}); study.networks('canica').table; "
        f"study.scores('lesion-canica').summary(); study.report({str(tmp_path / 'r.html')!r})"
    )
    assert _loaded(code) == set()


def test_the_command_line_loads_no_torch_before_it_needs_it():
    assert _loaded("from lmri.cli import app") == set()


def test_the_import_check_detects_torch():
    assert "torch" in _loaded("import lmri; lmri.lesion")


def test_a_former_name_is_the_new_one_and_says_so():
    import lmri

    with pytest.warns(DeprecationWarning, match="now called lmri.ResampleSource"):
        assert lmri.Donors is lmri.ResampleSource
    assert "Donors" not in lmri.__all__


def test_public_names_are_all_there():
    import lmri

    for name in lmri.__all__:
        found = getattr(lmri, name)
        assert inspect.ismodule(found) or found.__name__ == name
    assert set(lmri.__all__) <= set(dir(lmri))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = lmri.nonsense
