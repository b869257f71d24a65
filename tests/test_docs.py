"""The documentation is correct as far as it can be checked quickly: commands parse, names exist, links are valid."""

import ast
import importlib
import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer

import lmri

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "generated", "gallery"} & {*path.parts}),
]
HOW_TO = [
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
    *(ROOT / "docs" / name for name in ("start.md", "viewers/python.md", "format.md")),
]
OTHERS = ["README.md", *(f"docs/{name}.md" for name in ("confounds", "localizers", "qc", "recording", "distributed"))]
CANNOT_RUN = {
    "docs/models.md": "asks for a model of the hub, and for one larger than the memory",
    "docs/architectures.md": "names the projection of a model that the reader has",
}
UsageError = typer.BadParameter.__base__  # typer comes with a click of its own
_BLOCK = re.compile(r"^```([\w{}-]*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks(path, language):
    return [body for name, body in _BLOCK.findall(path.read_text(encoding="utf-8")) if name == language]


def _checker():
    spec = importlib.util.spec_from_file_location("docs_check", ROOT / "docs" / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _parse(line):
    """Parse a command like the shell and typer, without running it."""
    from lmri.cli.app import app

    group = typer.main.get_command(app)
    name, *arguments = shlex.split(line, comments=True)[1:]
    command = group.get_command(typer.Context(group), name)
    if command is None:
        raise UsageError(f"no command {name}")
    return command.make_context(name, arguments, parent=typer.Context(group, info_name="lmri"))


def _commands(path):
    lines = [line.strip() for body in _blocks(path, "") for line in body.replace("\\\n", " ").splitlines()]
    # Of a shell script only the lines that begin with the command; generic synopses are not commands.
    return [line for line in lines if line.startswith("lmri ") and "[OPTIONS]" not in line and "..." not in line]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_that_is_shown_can_be_given(path):
    for line in _commands(path):
        if "--help" in line or line.split()[1].startswith("-"):
            continue
        try:
            _parse(line)
        except UsageError as error:
            pytest.fail(f"{path.name}: {line}: {error.format_message()}")


def test_an_option_that_is_not_there_would_be_noticed():
    assert len(_commands(ROOT / "docs" / "start.md")) >= 10
    with pytest.raises(UsageError, match="No such option"):
        _parse("lmri report study --nonsense")
    with pytest.raises(UsageError, match="no command"):
        _parse("lmri nonsense study")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_python_that_is_shown_is_python_and_its_names_are_there(path):
    for body in _blocks(path, "python"):
        _check_names(body, path)


SCRIPTS = sorted(path for folder in ("examples", "benchmarks", "tools") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_that_scripts_use_are_there(path):
    _check_names(path.read_text(encoding="utf-8"), path)


def test_a_name_that_has_moved_would_be_noticed():
    for body in ("print(lmri.models.sites.SITES)", "from lmri.models.sites import SITES", "import lmri.nowhere"):
        with pytest.raises((AssertionError, ModuleNotFoundError)):
            _check_names(body, ROOT / "script.py")


def _check_names(body, path):
    """Resolve all names of the package that a piece of Python uses."""
    for node in ast.walk(ast.parse(body, str(path))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lmri":
            for one in node.names:
                assert hasattr(importlib.import_module(node.module), one.name) or _resolve(
                    [*node.module.split(".")[1:], one.name]
                ), f"{path.name}: {node.module}.{one.name}"
        elif isinstance(node, ast.Import):
            for one in node.names:
                if one.name.split(".")[0] == "lmri":
                    importlib.import_module(one.name)
        elif isinstance(node, ast.Attribute) and (chain := _chain(node)) and chain[0] == "lmri":
            _resolve(chain[1:])


def _chain(node):
    """Return the names of ``a.b.c``; empty if the expression does not begin with a name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []


def _resolve(parts):
    found = lmri
    for number, part in enumerate(parts):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = importlib.import_module(".".join(["lmri", *parts[: number + 1]]))
    return found


def _has_python(path):
    return bool(_blocks(path, "python"))


def _name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def one_corpus(tmp_path_factory):
    """Return the folder of the study that pages refer to, as created by `start.md`, and its source file."""
    from lmri.demo.texts import generate

    folder = tmp_path_factory.mktemp("docs")
    texts = [text.replace("\n", " ") for text in generate("news", 16, 1)]
    (folder / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    model, tokenizer = lmri.load_model("lmri-demo")
    recording = lmri.record(model, tokenizer, texts, folder / "study", corpus="mine", site="mlp_hidden", run_tokens=150)
    study = lmri.open_study(folder / "study")
    study.save_decomposition(lmri.NeuronICA(recording.space, n_components=4).fit(recording.imgs), [recording])
    study.save_networks(study.decomposition("ica").threshold("z", z=3.0), "ica", "ica-z3")
    return folder


@pytest.fixture(scope="module")
def two_corpora(tmp_path_factory):
    """Return the folder of the study of `localizers.md`."""
    from lmri.demo.texts import generate

    folder = tmp_path_factory.mktemp("docs")
    model, tokenizer = lmri.load_model("lmri-demo")
    for corpus, kind in (("code", "code"), ("prose", "news")):
        lmri.record(model, tokenizer, generate(kind, 10, 2), folder / "study", corpus=corpus)
    return folder


@pytest.fixture(scope="module")
def several_models(tmp_path_factory):
    """Return the folder of the study of `several-models.md`: two models of one origin, and their group."""
    import torch

    from lmri.demo.texts import generate

    folder = tmp_path_factory.mktemp("docs")
    model, tokenizer = lmri.load_model("lmri-demo")
    texts = generate("news", 12, 1)
    lmri.record(model, tokenizer, texts, folder / "study", corpus="news", site="mlp_hidden", subject="parent")
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(1.01)
    lmri.record(model, tokenizer, None, folder / "study", subject="child")
    lmri.open_study(folder / "study", "parent").decompose(
        n_components=3, n_init=1, threshold="z:3", name="g", subjects=["parent", "child"]
    )
    return folder


@pytest.fixture
def run_page(tmp_path, monkeypatch):
    """Run the Python blocks of a page in order, next to a copy of a study."""
    from matplotlib import pyplot as plt

    plt.switch_backend("Agg")

    def run(path, source, **names):
        folder = shutil.copytree(source, tmp_path / "here")
        monkeypatch.chdir(folder)
        for number, body in enumerate(_blocks(path, "python")):
            exec(compile(body, f"{path.name}, Python block {number}", "exec"), names)
        return names

    yield run
    plt.close("all")


@pytest.mark.parametrize("path", [path for path in HOW_TO if _has_python(path)], ids=_name)
@pytest.mark.filterwarnings("ignore")
def test_the_python_of_a_how_to_page_runs_as_it_stands(path, run_page, request):
    run_page(path, request.getfixturevalue("several_models" if path.stem == "several-models" else "one_corpus"))


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.filterwarnings("ignore")
def test_the_python_of_other_pages_runs_with_the_names_that_they_suppose(
    name, run_page, request, monkeypatch, tmp_path
):
    path = ROOT / name
    is_localizer = name == "docs/localizers.md"
    folder = request.getfixturevalue("two_corpora" if is_localizer else "one_corpus")
    load = lmri.load_model
    model, tokenizer = load("lmri-demo")
    monkeypatch.setattr(lmri, "load_model", lambda name: load("lmri-demo"))  # where a page says gpt2
    if name == "README.md":  # it records a study of its own
        (tmp_path / "texts").mkdir()
        shutil.copy(folder / "texts.txt", tmp_path / "texts")
        run_page(path, tmp_path / "texts")
        return
    study = lmri.open_study(folder / "study")
    recording = study.recording("code" if is_localizer else "mine")
    network = None if is_localizer else study.networks("ica-z3")[0]
    inputs = tokenizer("The company said", return_tensors="pt")
    run_page(
        path, folder, lmri=lmri, model=model, study=study, recording=recording, mask_img=recording.mask_img,
        network=network, inputs=inputs,
    )  # fmt: skip


def test_every_page_with_python_is_run_or_says_why_not():
    with_python = {_name(path) for path in PAGES if _has_python(path)}
    run = {_name(path) for path in HOW_TO if _has_python(path)} | set(OTHERS)
    assert run | CANNOT_RUN.keys() == with_python
    assert not run & CANNOT_RUN.keys()


def test_a_block_that_raises_would_be_noticed(tmp_path, run_page, one_corpus):
    page = tmp_path / "page.md"
    page.write_text("```python\nkept = 1\n```\n```\nnothing\n```\n```python\nassert kept == 2\n```\n")
    with pytest.raises(AssertionError):
        run_page(page, one_corpus)


def test_the_reference_has_every_public_name():
    shown = set(re.findall(r"^   ([\w.]+)$", (ROOT / "docs" / "api" / "index.md").read_text(), re.MULTILINE))
    modules = {"qc", "tasks"}  # of these, what they hold
    assert set(lmri.__all__) - modules <= shown
    assert all(any(name.startswith(f"{module}.") for name in shown) for module in modules)
    for name in shown:
        assert _resolve(name.split(".")).__doc__, name


def test_links_between_pages_lead_somewhere(tmp_path):
    check = _checker()
    assert check.check_markdown() == []
    # and what leads nowhere is found
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("[a](docs/b.md#there) [b](docs/b.md#nowhere) [c](docs/c.md) `[d](e.md)`\n")
    (tmp_path / "docs" / "b.md").write_text("# There\n")
    assert [problem.split(" links to ")[1].split(",")[0] for problem in check.check_markdown(tmp_path)] == [
        "docs/b.md#nowhere",
        "docs/c.md",
    ]


def test_pages_that_ask_the_network_are_found(tmp_path):
    (tmp_path / "good.html").write_text('<p id="x"><a href="#x">x</a><a href="https://example.org">out</a>')
    (tmp_path / "bad.html").write_text(
        '<script src="https://cdn.example.org/a.js"></script><a href="good.html#y">y</a><img src="none.png">'
    )
    (tmp_path / "bad.css").write_text("@import 'https://fonts.example.org/a.css';")
    found = "\n".join(_checker().check_site(tmp_path))
    assert len(found.splitlines()) == 4
    for what in (
        "cdn.example.org/a.js from the network",
        "#y, and there is no such",
        "none.png",
        "bad.css loads",
    ):
        assert what in found
