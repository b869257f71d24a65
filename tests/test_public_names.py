"""Public names and documented modules are importable independent of the layout of the package."""

import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import lmri

STUBS = Path(lmri.__file__).parents[1] / "lmri-stubs"
MODULES = lmri._PUBLIC_SUBMODULES


def _run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


FIRST_LINES = [
    "import lmri.tasks; lmri.tasks.Perplexity",
    "from lmri.tasks import Perplexity",
    "import lmri.tasks.perplexity as module; module.Perplexity",
    "from lmri import qc; qc.inspect",
    "import lmri; lmri.NetworkSet",
]

# Other packages are loaded once, which takes most of the time; lmri is loaded anew by every line.
FORKED = """
import os, sys, traceback
import nibabel, nilearn.maskers, pandas, scipy.stats, torch
from transformers import PreTrainedModel
assert not any(name.partition(".")[0] == "lmri" for name in sys.modules)
failed = 0
for line in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            exec(line, {})
        except BaseException:
            print(line, file=sys.stderr)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    failed += os.waitpid(child, 0)[1] != 0
sys.exit(failed)
"""


def n_failures(lines):
    """Run each line as the first line of a program that uses lmri, and count those that fail."""
    if not hasattr(os, "fork"):
        return sum(_run(line).returncode != 0 for line in lines)
    done = subprocess.run([sys.executable, "-c", FORKED, *lines], capture_output=True, text=True, check=False)
    assert done.stderr.count("Error") >= done.returncode
    return done.returncode


def test_the_first_line_of_a_program_finds_public_names():
    assert n_failures(FIRST_LINES) == 0


def test_a_module_that_is_not_public_is_not_found():
    lines = ["import lmri.nonsense", "from lmri.tasks import Nonsense", "import lmri.tasks.nonsense"]
    assert n_failures([*lines, "import lmri; lmri.NetworkSet"]) == len(lines)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_public_module_is_the_module_itself_and_no_copy(name):
    module = importlib.import_module(f"lmri.{name}")
    assert module is importlib.import_module(f"lmri.{MODULES[name]}")
    assert module.__spec__.name == module.__name__ == f"lmri.{MODULES[name]}"
    assert getattr(lmri, name) is module


def test_submodules_of_a_public_module_are_no_copies_either():
    from lmri.lesions.tasks.perplexity import Perplexity
    from lmri.tasks.perplexity import Perplexity as Same

    assert Same is Perplexity


def test_pickles_are_found_under_either_name():
    from lmri.tasks import Perplexity

    assert pickle.loads(pickle.dumps(Perplexity)) is Perplexity
    for module in ("lmri.tasks", "lmri.tasks.perplexity", "lmri.lesions.tasks.perplexity"):
        assert pickle.loads(f"c{module}\nPerplexity\n.".encode()) is Perplexity


def test_type_checkers_are_told_every_public_module():
    found = {path.stem: path.read_text(encoding="utf-8") for path in STUBS.glob("*.pyi")}
    assert found == {name: f"from lmri.{place} import *\n" for name, place in MODULES.items()}
    assert (STUBS / "py.typed").read_text(encoding="utf-8") == "partial\n"


def test_the_top_level_of_the_package_is_short():
    top = {path.name for path in Path(lmri.__file__).parent.iterdir() if path.name != "__pycache__"}
    rooms = {"cli", "decomposition", "demo", "lesions", "models", "networks", "report", "space", "storage", "study.py"}
    rooms |= {"verification"}
    assert top == rooms | {"__init__.py", "__init__.pyi", "exceptions.py", "py.typed"}
