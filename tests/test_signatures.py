"""Signatures: few parameters outside the façades, return types that say what is returned, and documented keywords.

The source is parsed, not imported. Only the options behind a `TypedDict` are compared as they are at run time.
"""

import ast
import importlib
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_type_hints

import pytest

import lmri

SOURCE = Path(lmri.__file__).parent

MOST_PARAMETERS = 12

# Façades: what users call, with one parameter for each option. Estimators follow scikit-learn, which wants every
# parameter in `__init__`.
FACADES = {"lmri/study.py": "Study", "lmri/models/recorder/run.py": "record"}

KEYWORDS = {
    "lmri.decomposition.phantom.options.Planting": "lmri.phantom.plant",
    "lmri.lesions.experiments.robustness_settings.Robustness": "lmri.experiments.robustness",
    "lmri.lesions.tasks.options.Classification": "lmri.tasks.Classification",
    "lmri.lesions.tasks.options.TaskData": "lmri.tasks.load",
}
"""Keywords with their options, and the function that accepts them."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.AST, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Function]]:
    """Find all functions in a module, with the names of the classes and functions around them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield (*names, child.name), child
        inner = (*names, child.name) if isinstance(child, Function | ast.ClassDef) else names
        yield from functions(child, inner)


def n_parameters(function: Function) -> int:
    """Count the parameters, without `self`; all further keywords (``**``) are one."""
    given = function.args
    named = [parameter.arg for parameter in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    named += [parameter.arg for parameter in (given.vararg, given.kwarg) if parameter is not None]
    return len([name for name in named if name not in ("self", "cls")])


def is_facade(path: str, names: tuple[str, ...]) -> bool:
    is_estimator = path.startswith("lmri/decomposition/") and names[-1] == "__init__"
    return path.startswith("lmri/cli/") or names[0] == FACADES.get(path) or is_estimator


def problems_in(path: str, source: str) -> list[str]:
    """List the functions with too many parameters, and those that return `Any`."""
    found = []
    for names, function in functions(ast.parse(source)):
        name = f"{path}: {'.'.join(names)}"
        if n_parameters(function) > MOST_PARAMETERS and not is_facade(path, names):
            found.append(f"{name} has {n_parameters(function)} parameters; at most {MOST_PARAMETERS} are allowed")
        is_dunder = names[-1].startswith("__")  # a descriptor returns whatever the attribute is
        if function.returns is not None and ast.unparse(function.returns).strip("'\"") == "Any" and not is_dunder:
            found.append(f"{name} returns Any; name the type")
    return found


def test_functions_have_few_parameters_and_say_what_they_return():
    paths = {path.relative_to(SOURCE.parent).as_posix(): path for path in SOURCE.rglob("*.py")}
    assert len(paths) > 300
    assert [problem for name, path in paths.items() for problem in problems_in(name, path.read_text("utf-8"))] == []


def test_too_many_parameters_would_be_noticed():
    many = ", ".join(f"x{number}: int = 0" for number in range(MOST_PARAMETERS))
    for start in (f"def one(a, {many})", f"def one(*a, {many})", f"def one({many}, **a)", f"async def one(a, {many})"):
        assert problems_in("lmri/networks/x.py", f"{start} -> int: ...") == [
            "lmri/networks/x.py: one has 13 parameters; at most 12 are allowed"
        ]
    within = f"class A:\n    def b(self):\n        def c(d, {many}): ..."
    assert len(problems_in("lmri/networks/x.py", within)) == 1
    assert problems_in("lmri/networks/x.py", f"class A:\n    def b(self, {many}): ...") == []
    method = f"class Study:\n    def b(self, a, {many}): ..."
    assert problems_in("lmri/study.py", method) == []
    assert len(problems_in("lmri/storage/store.py", method)) == 1


@pytest.mark.parametrize("returned", ["Any", "'Any'", '"Any"'])
def test_a_function_that_returns_any_would_be_noticed(returned):
    assert problems_in("lmri/x.py", f"def f() -> {returned}: ...") == ["lmri/x.py: f returns Any; name the type"]
    assert problems_in("lmri/x.py", "def f() -> dict[str, Any]: ...\ndef g() -> AnyComparison: ...") == []


@pytest.mark.parametrize(("stem", "function"), KEYWORDS.items())
def test_keywords_are_the_options_and_are_documented(stem, function):
    module, _, name = stem.rpartition(".")
    loaded = importlib.import_module(module)
    keywords = getattr(loaded, f"{name}Keywords")
    options = next(getattr(loaded, name + end) for end in ("Options", "Settings") if hasattr(loaded, name + end))
    accepted, types = get_type_hints(keywords), get_type_hints(options)
    explicit = {"n_networks"} if name == "Planting" else set()
    assert accepted == {key: value for key, value in types.items() if key not in explicit}
    assert all(field.default is not MISSING for field in fields(options))

    module, _, name = function.rpartition(".")
    called = getattr(importlib.import_module(module), name)
    parameters = called.__doc__.partition("Parameters\n")[2].partition("Returns\n")[0].splitlines()
    starts = [line.strip().partition(" :")[0] for line in parameters if " : " in line]
    documented = [key for start in starts for key in start.split(", ")]
    assert set(accepted) <= set(documented)
    with pytest.raises(TypeError, match="unexpected keyword argument 'another'"):
        options(another=1)
