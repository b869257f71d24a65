"""What the site needs beside sphinx: lenient backticks, and pages that are made of the program itself."""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def plain_plots(_config: dict[str, Any], _file: str) -> None:
    """Draw every example in the report's style, whatever the one before it had set."""
    import matplotlib as mpl

    from lmri.space.drawing import STYLE

    mpl.rcParams.update({**STYLE, "svg.fonttype": "path", "figure.dpi": 100, "savefig.dpi": 100})


def leave_arguments_alone(
    _app: Sphinx, _env: Any, node: nodes.Element, contnode: nodes.TextElement
) -> nodes.TextElement | None:
    """Show what stands between single backticks and has no page as it is; every other broken reference is an error."""
    return contnode if node.get("reftype") == "obj" else None


def leave_out_routing(_app: Sphinx, _what: str, name: str, _obj: Any, _skip: bool, _options: Any) -> bool | None:
    """Leave out what scikit-learn adds to estimators, whose words refer to its own pages."""
    return True if re.fullmatch(r"set_\w+_request|get_metadata_routing", name) else None


class Commands(SphinxDirective):
    """Describe every command of ``lmri``, from the commands themselves, so that nothing can be out of date."""

    def run(self) -> list[nodes.Node]:
        """Make a section for each command."""
        lines = StringList(list(_commands()), source="lmri.cli")
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


class Keys(SphinxDirective):
    """List the keys of the viewer, from the page itself."""

    def run(self) -> list[nodes.Node]:
        """Make a table."""
        script = (files("lmri.report.viewer") / "page" / "keys.js").read_text(encoding="utf-8")
        rows = re.findall(r"^  \[(\[.*?\]), (\".*?\")\],$", script, re.MULTILINE)
        if not rows:
            raise self.error("The viewer's keys.js has no list of keys any more; see docs/_ext/lmri_docs.py.")
        lines = ["| key | |", "|---|---|"]
        for keys, words in rows:
            names = " ".join(f"<kbd>{name}</kbd>" for name in json.loads(keys))
            lines.append(f"| {names} | {json.loads(words)} |")
        return self.parse_text_to_nodes("\n".join(lines))


class Sites(SphinxDirective):
    """List all recording sites, from their registry."""

    def run(self) -> list[nodes.Node]:
        """Make a table."""
        from lmri.space.sites import SITES

        rows = [f"| `{one.name}` | {one.neuron} | {one.remark} |" for one in SITES.values()]
        lines = ["| site | definition of a neuron | remarks |", "|---|---|---|", *rows]
        return self.parse_text_to_nodes("\n".join(lines))


class Confounds(SphinxDirective):
    """List all confounds, from their registry."""

    def run(self) -> list[nodes.Node]:
        """Make a table."""
        from lmri.decomposition.confounds import CONFOUNDS

        helps = {one.name: _escaped(one.help).replace("|", "\\|") for one in CONFOUNDS.values()}
        rows = [f"| `{one.name}` | {one.unit} | {helps[one.name]} |" for one in CONFOUNDS.values()]
        lines = ["| column | unit | definition |", "|---|---|---|", *rows]
        return self.parse_text_to_nodes("\n".join(lines))


def _commands() -> Iterator[str]:
    import typer

    from lmri.cli.app import app

    group: Any = typer.main.get_command(app)
    context = typer.Context(group, info_name="lmri")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        own = typer.Context(command, info_name=name, parent=context)
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        names = [(one.metavar or one.name).upper().strip("[]") for one in arguments]
        shown = [name if one.required else f"[{name}]" for name, one in zip(names, arguments, strict=True)]
        yield from (f"## {name}", "", *_paragraphs(command.help.split("\f")[0].strip()), "```")
        yield from (" ".join(["lmri", name, *shown, "[OPTIONS]"]), "```", "")
        yield from ("| | |", "|---|---|")
        for parameter in command.params:
            record = _row(parameter, own)
            if record is not None:
                yield record
        yield ""


def _row(parameter: Any, context: Any) -> str | None:
    record = None if "--help" in parameter.opts else parameter.get_help_record(context)
    if record is None:
        return None
    name, text = (part.replace("|", "\\|") for part in record)
    lines = [_escaped(" ".join(line.split())) for line in text.split("\n\n")]
    return f"| `{' '.join(name.split())}` | {'<br>'.join(lines)} |"


def _paragraphs(text: str) -> Iterator[str]:
    """Format the help of a command; indented lines are examples."""
    for paragraph in text.split("\n\n"):
        first, *rest = paragraph.split("\n")
        examples = [line.removeprefix("  ") for line in rest if line.startswith("  ")]
        yield from (first, "", "```", *examples, "```", "") if examples else (paragraph, "")


def _escaped(text: str) -> str:
    return text.replace("[", "\\[").replace("<", "\\<").replace("*", "\\*").replace("_", "\\_")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register them."""
    app.connect("missing-reference", leave_arguments_alone)
    app.connect("autodoc-skip-member", leave_out_routing)
    app.add_directive("lmri-commands", Commands)
    app.add_directive("lmri-keys", Keys)
    app.add_directive("lmri-sites", Sites)
    app.add_directive("lmri-confounds", Confounds)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
