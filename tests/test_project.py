"""Project files are correct: citation, workflows, and the commands, paths and links named on pages."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import lmri

ROOT = Path(__file__).parents[1]
PAGES = (
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CODE_OF_CONDUCT.md",
    ".github/pull_request_template.md",
    *(f"docs/contributing/{name}.md" for name in ("index", "debugging", "stability", "deprecation", "releasing")),
)
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
TOP = {path.name for path in ROOT.iterdir()}


def _read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def _code(text):
    """Return the code spans and the lines of code blocks of a page."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^ *```\w*\n.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [*re.findall(r"`([^`\n]+)`", rest), *(line.strip() for block in blocks for line in block.splitlines())]


def _make_targets(text):
    return set(re.findall(r"^([\w-]+):", text, re.MULTILINE))


def _commands():
    import typer

    from lmri.cli.app import app

    return set(typer.main.get_command(app).commands)


def _missing(codes, targets, commands):
    """List the make targets, commands, variables, registries and paths in pieces of code that do not exist."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
    known = source + _read("Makefile") + _read("tests/conftest.py")
    missing = set()
    for code in codes:
        words = code.split("#")[0].split()
        if words[:1] == ["make"]:
            missing |= {f"make {word}" for word in words[1:] if "=" not in word and word not in targets}
        for name in re.findall(r"(?:^|[/ ])lmri ([a-z][a-z-]*)", code):
            missing |= {f"command {name}"} - {f"command {one}" for one in commands}
        for name in re.findall(r"\bLMRI_[A-Z_]+", code):
            missing |= set() if re.search(rf"\b{name}\b", known) else {f"variable {name}"}
        if re.fullmatch(r"[A-Z]{4,}", code) and not re.search(rf"^{code}\b", source, re.MULTILINE):
            missing.add(f"registry {code}")
        for name in words:
            first, *rest = name.rstrip(",;:").split("/")
            is_own = first in TOP if rest else name.endswith((".md", ".cff", ".toml", ".txt")) and name[0].isupper()
            if first == "src" or (is_own and first != ".venv"):
                path = ROOT / name
                exists = path.parent.is_dir() if path.stem == "NAME" else any(ROOT.glob(name.rstrip("/")))
                missing |= set() if exists else {f"path {name}"}
    return missing


def _broken_links(path, root=ROOT):
    """List the relative links of a Markdown file whose target does not exist."""
    text = re.sub(r"`[^`\n]*`", "", path.read_text(encoding="utf-8"))
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^()\s]+)\)", text)]
    return [link for link in links if link and "://" not in link and not (path.parent / link).exists()]


def _steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def _script_lines(workflow):
    return [line.strip() for step in _steps(workflow) for line in step.get("run", "").splitlines()]


def _unsafe(text):
    """List permissions of a workflow beyond the minimum, and actions that are not pinned to a major version."""
    workflow = yaml.safe_load(text)
    problems = []
    if workflow.get("permissions") != {"contents": "read"}:
        problems.append("permissions of the workflow")
    for name, job in workflow["jobs"].items():
        if job.get("permissions", {"id-token": "write"}) != {"id-token": "write"}:
            problems.append(f"permissions of {name}")
        if "permissions" in job and any("run" in step for step in job["steps"]):
            problems.append(f"{name} runs scripts with a token for publishing")
        if "timeout-minutes" not in job:
            problems.append(f"{name} has no time limit")
    for step in _steps(workflow):
        action = step.get("uses")
        if action and not re.fullmatch(r"[\w-]+/[\w-]+@(release/)?v\d+", action):
            problems.append(f"{action} is not pinned")
        if action and "/checkout@" in action and step.get("with", {}).get("persist-credentials") is not False:
            problems.append("checkout keeps its credentials")
    if "secrets." in text:
        problems.append("uses a secret")
    if "pull_request_target" in text:
        problems.append("runs code of strangers with rights")
    return problems


def _citation_problems(text, version):
    try:
        citation = yaml.safe_load(text)
    except yaml.YAMLError:
        return ["not YAML"]
    problems = [f"no {key}" for key in ("cff-version", "message", "title", "authors", "version") if key not in citation]
    if citation.get("version") != version:
        problems.append("version")
    if citation.get("authors") != [{"name": "The lmri developers"}] or citation.get("type") != "software":
        problems.append("does not cite the software")
    ids = [one["value"] for ref in citation.get("references", ()) for one in ref.get("identifiers", ())]
    if "arXiv:2502.20408" not in ids:
        problems.append("paper")
    return problems


def test_the_citation_is_of_this_version_and_of_the_paper():
    assert _citation_problems(_read("CITATION.cff"), lmri.__version__) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (f'version: "{lmri.__version__}"', 'version: "99.0"', "version"),
        ("arXiv:2502.20408", "arXiv:0000.00000", "paper"),
        ("name: The lmri developers", "name: Somebody", "does not cite the software"),
        ("authors:", "authors: [", "not YAML"),
    ],
)
def test_a_wrong_citation_would_be_noticed(old, new, problem):
    text = _read("CITATION.cff")
    assert old in text
    assert _citation_problems(text.replace(old, new, 1), lmri.__version__) == [problem]


def test_everything_that_the_pages_name_exists():
    codes = [code for page in PAGES for code in _code(_read(page))]
    missing = _missing(codes, _make_targets(_read("Makefile")), _commands())
    assert missing == set()


def test_what_does_not_exist_would_be_noticed():
    page = (
        "Run `make nonsense`, `make test lint`, `make fuzz RUNS=3` and `lmri nonsense study`; set `LMRI_NONSENSE=1`;\n"
        "see `src/lmri/nowhere/NAME.py`, `src/lmri/decomposition/NAME.py`, `docs/nowhere.md`, `NOWHERE.md`,\n"
        "`REGISTRY`, `METHODS`, `lmri/log.jsonl`.\n```\nmake nowhere  # a comment\n"
        ".venv/bin/python -m pytest tests/test_nowhere.py\n.venv/bin/lmri nowhere study\nmake docs\n```\n"
    )
    assert _missing(_code(page), _make_targets(_read("Makefile")), _commands()) == {
        "make nonsense", "make nowhere", "command nonsense", "command nowhere", "variable LMRI_NONSENSE",
        "path src/lmri/nowhere/NAME.py", "path docs/nowhere.md", "path NOWHERE.md", "registry REGISTRY",
        "path tests/test_nowhere.py",
    }  # fmt: skip


def test_contributing_names_every_make_target_for_tests_and_checks():
    named = set(re.findall(r"`make ([\w-]+)`", _read("CONTRIBUTING.md")))
    assert {"test", "test-slow", "fuzz", "campaign", "lint", "docs", "browser", "clients"} <= named


@pytest.mark.parametrize("page", PAGES)
def test_links_of_the_project_pages_lead_somewhere(page):
    assert _broken_links(ROOT / page) == []


def test_a_broken_link_would_be_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[a](page.md) [b](nowhere.md#x) [c](https://example.org) [d](#x) `[e](code.md)`", encoding="utf-8")
    assert _broken_links(page) == ["nowhere.md"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_no_more_rights_than_they_need(path):
    assert _unsafe(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("contents: read", "contents: write", "permissions of the workflow"),
        ("checkout@v6", "checkout@main", "actions/checkout@main is not pinned"),
        ("persist-credentials: false", "fetch-depth: 0", "checkout keeps its credentials"),
        ("timeout-minutes: 120", "name: x", "test has no time limit"),
        ("UV_TORCH_BACKEND: cpu", "TOKEN: ${{ secrets.TOKEN }}", "uses a secret"),
        ("pull_request:", "pull_request_target:", "runs code of strangers with rights"),
    ],
)
def test_a_workflow_with_more_rights_would_be_noticed(old, new, problem):
    text = _read(".github/workflows/ci.yml")
    assert old in text
    assert problem in _unsafe(text.replace(old, new, 1))


def test_publishing_is_apart_from_building():
    text = _read(".github/workflows/release.yml")
    jobs = yaml.safe_load(text)["jobs"]
    assert "permissions" not in jobs["build"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    # a script in the job that may publish would be noticed
    step = "      - uses: pypa/gh-action-pypi-publish"
    assert _unsafe(text.replace(step, "      - run: python build.py\n" + step)) == [
        "publish runs scripts with a token for publishing"
    ]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_name_make_targets_and_files_that_exist(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    lines = _script_lines(workflow)
    assert _missing(lines, _make_targets(_read("Makefile")), _commands()) == set()
    files = re.findall(r"--constraint (\S+)", "\n".join(lines))
    assert all((ROOT / name).is_file() for name in files)
    extras = {name for found in re.findall(r'"\.\[([\w,-]+)\]"', "\n".join(lines)) for name in found.split(",")}
    assert extras <= tomllib.loads(_read("pyproject.toml"))["project"]["optional-dependencies"].keys()
    # the same workflow with a target, a file and a needed job that do not exist
    assert _missing(["make nowhere", "python docs/nowhere.py"], {"test"}, set()) == {
        "make nowhere",
        "path docs/nowhere.py",
    }
    for job in workflow["jobs"].values():
        assert job.get("needs", next(iter(workflow["jobs"]))) in workflow["jobs"]


def test_continuous_integration_covers_the_promised_versions():
    jobs = yaml.safe_load(_read(".github/workflows/ci.yml"))["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    project = tomllib.loads(_read("pyproject.toml"))["project"]
    lowest = re.fullmatch(r">=(3\.\d+)", project["requires-python"])[1]
    assert all(isinstance(version, str) for version in matrix["python"])  # 3.10 without quotes would be 3.1
    assert lowest == min(matrix["python"], key=lambda version: int(version.split(".")[1]))
    named = {one.rsplit(" ", 1)[1] for one in project["classifiers"] if re.search(r":: 3\.\d+$", one)}
    assert lowest in named <= set(matrix["python"])
    assert {one["which"] for one in jobs["dependencies"]["strategy"]["matrix"]["include"]} == {"lowest", "newest"}


def test_tests_without_make_are_the_tests_of_make():
    jobs = yaml.safe_load(_read(".github/workflows/ci.yml"))["jobs"]
    windows = next(step for step in jobs["test"]["steps"] if "Windows'" in step.get("if", "") and "==" in step["if"])
    recipe = re.search(r"^test:.*\n\t(.*)$", _read("Makefile"), re.MULTILINE)[1]
    variable, rest = recipe.split(" $(BIN)/python ")
    assert windows["run"].endswith(rest)
    name, value = variable.split("=")
    assert windows["env"][name] == re.fullmatch(r"\$\$\{OMP_NUM_THREADS:-(\d)\}", value)[1]  # 1, unless set outside


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms_ask_for_what_reproduces_a_problem(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 0
    assert any(part.get("validations", {}).get("required") for part in form["body"])
    if path.stem != "question":
        assert {"command", "output"} <= set(ids)


def test_other_configuration_is_yaml_and_names_files_that_exist():
    assert yaml.safe_load(_read(".github/ISSUE_TEMPLATE/config.yml")).keys() == {"blank_issues_enabled"}
    site = yaml.safe_load(_read(".readthedocs.yaml"))
    assert (ROOT / site["sphinx"]["configuration"]).is_file()
    jobs = site["build"]["jobs"]
    assert _missing([*jobs["install"], *jobs["build"]["html"]], set(), set()) == set()


def test_no_page_invents_an_address():
    for path in (*(ROOT / page for page in PAGES), *WORKFLOWS, *FORMS, ROOT / ".readthedocs.yaml"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://|[\w.]+@[\w-]+\.\w{2,}", text), path.name
    # the pattern finds both
    assert re.search(r"https?://|[\w.]+@[\w-]+\.\w{2,}", "write to someone@example.org")
    assert re.search(r"https?://|[\w.]+@[\w-]+\.\w{2,}", "see https://example.org")


# -- the campaign of simulations ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def campaign():
    spec = importlib.util.spec_from_file_location("campaign", ROOT / "benchmarks" / "campaign.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_of_the_campaign_names_its_command(campaign, tmp_path):
    for page in campaign.PAGES:
        assert campaign.command_of(page)[-2:] == ["--table", page]
    (tmp_path / "page.md").write_text("# T\n\nWritten by `lmri phantom --table other.md`.\n", encoding="utf-8")
    with pytest.raises(ValueError, match="names no command"):
        campaign.command_of("page.md", tmp_path)


def test_a_page_of_the_campaign_is_made_again(campaign, tmp_path):
    command = "lmri phantom --data gaussian --layers 2 --width 16 --n-components 2 --threshold z:3 --table page.md"
    page = tmp_path / "page.md"
    page.write_text(f"# My title\n\nMade by `{command}`.\n\nold tables\n", encoding="utf-8")
    campaign.rerun("page.md", tmp_path)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# My title\n")
    assert f"`{command}`" in text  # so it can be made again
    assert "| gaussian | ica | z:3 |" in text
    assert "old tables" not in text


def test_a_page_of_the_campaign_survives_a_command_that_fails(campaign, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# T\n\n`lmri phantom --data nonsense --table page.md`\n\nold tables\n", encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError):
        campaign.rerun("page.md", tmp_path)
    assert "old tables" in page.read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("make") is None or sys.platform == "win32", reason="there is no make on this machine")
@pytest.mark.parametrize(
    ("target", "part"), [("test-slow", "-m slow -n 2"), ("fuzz", "-m hypothesis"), ("campaign", "campaign.py")]
)
def test_make_has_a_recipe(target, part):
    def plan(name):
        return subprocess.run(["make", "-n", name], cwd=ROOT, capture_output=True, text=True, check=False)

    assert plan(target).returncode == 0
    assert part in plan(target).stdout
    assert plan("nonsense").returncode != 0
