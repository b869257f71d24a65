"""Commands between recordings and networks: how many there are, and what single texts make of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, check_new, check_new_figure, counted, guarded, quote, records
from lmri.cli.describe import Json, Quiet
from lmri.cli.options import Seed, SiteOption, StudyFolder

if TYPE_CHECKING:
    import numpy as np

    from lmri.decomposition.individuals import Individuals, MapTest
    from lmri.networks import NetworkSet
    from lmri.storage.recording import Recording

MOST_ROWS = 30
"""Of runs on a screen; all of them are in the JSON."""


@guarded
def dual_regression(
    study: StudyFolder,
    networks: Annotated[str, typer.Argument(metavar="NETWORKS", help="Name of a network set.", show_default=False)],
    corpus: Annotated[
        str | None, typer.Option(help="Corpus whose texts are taken; needed if there are several.", show_default=False)
    ] = None,
    contrast: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="CORPUS CORPUS", help="Instead: two corpora, whose texts are compared.", show_default=False
        ),
    ] = None,
    site: SiteOption = None,
    n_permutations: Annotated[int, typer.Option(help="Of texts between the two corpora.")] = 1000,
    out: Annotated[
        Path | None, typer.Option(help="New folder for maps (NIfTI) and tables (TSV).", show_default="only shown")
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Estimate every text's own version of the networks and, of two corpora, test which neurons differ."""
    import pandas as pd

    from lmri.decomposition.individuals import contrast as compare_groups
    from lmri.decomposition.individuals import dual_regression as regress
    from lmri.decomposition.individuals.dual_regression import VOLUMES_PER_MAP
    from lmri.study import open_study

    output, opened = Output(quiet, json), open_study(study)
    check_new("--out", out)
    if contrast is not None and corpus is not None:
        raise ValueError(f"--corpus {corpus} and --contrast {' '.join(contrast)} were both given. Give one of them.")
    if contrast is not None and contrast[0] == contrast[1]:
        raise ValueError(f"--contrast names {contrast[0]!r} twice. Name two corpora.")
    maps = opened.networks(networks, site)
    recordings = [opened.recording(one, maps.space.site) for one in contrast or [corpus]]
    texts = [table["text_id"].tolist() for recording in recordings for table in recording.events]
    corpora = {name: one.corpus for one in recordings for table in one.events for name in table["text_id"].unique()}
    hashes = {row.text_id: row.sha256 for one in recordings for row in one.texts.itertuples() if row.text_id in corpora}
    # As the maps were made; over all volumes, so that what differs between texts is kept.
    standardize = maps.info.get("parameters", {}).get("standardize", "zscore")
    with output.progress(f"Regressing {len(corpora)} texts"):
        found = regress(
            maps,
            [img for recording in recordings for img in recording.imgs],
            texts=texts,
            text_hashes=hashes,
            standardize=standardize,
            too_short="skip",
        )
    test = None
    if contrast is not None:
        with output.progress(f"Comparing {contrast[0]} with {contrast[1]}"):
            test = compare_groups(found, corpora, n_permutations, seed, family="set")

    amplitudes = pd.DataFrame([course.std(axis=0) for course in found.time_courses], columns=maps.names)
    lengths = [len(course) for course in found.time_courses]
    made = sum(bool(one) for one in found.made_maps.values())
    output.say(
        f"{len(found)} texts of {' and '.join(one.corpus for one in recordings)} have their own versions of "
        f"{len(maps)} networks, of {min(lengths)} to {max(lengths)} volumes each; {made} of the texts are among those "
        f"that made the networks. Standardized over all volumes: {standardize}."
    )
    if found.left_out:
        output.say(
            f"Left out: {len(found.left_out)} of {len(corpora)} texts, which have fewer than "
            f"{VOLUMES_PER_MAP * len(maps)} volumes ({VOLUMES_PER_MAP} a map): {_listed(found.left_out)}."
        )
    output.table(_amplitude_table(maps, amplitudes), "Amplitude (sd of the time course) over texts")
    if test is not None:
        _say_test(output, test)
    if out is not None:
        _write(out, found, corpora, amplitudes, test)
        output.say(f"Maps and tables: {quote(out)}")
    output.result(
        {
            "networks": maps.method,
            "site": maps.space.site,
            **found.info,
            "n_texts": len(found),
            "n_made_maps": made,
            "left_out": list(found.left_out),
            "amplitudes": records(amplitudes.assign(text=found.names)),
            "contrast": None
            if test is None
            else {**test.info, "family": test.family, "p_floor": test.p_floor, "networks": records(test.table)},
        }
    )


def _amplitude_table(maps: "NetworkSet", amplitudes: Any) -> Any:
    import pandas as pd

    label = {"label": maps.metrics["label"].to_numpy()} if "label" in maps.metrics else {}
    return pd.DataFrame(
        {
            "network": maps.names,
            **label,
            "mean": amplitudes.mean().to_numpy(),
            "lowest": amplitudes.min().to_numpy(),
            "highest": amplitudes.max().to_numpy(),
        }
    )


def _say_test(output: Output, test: "MapTest") -> None:
    first, second = (f"{name} ({len(texts)} texts)" for name, texts in test.groups.items())
    output.table(
        test.table.drop(columns="p_floor").rename(
            columns={"n_significant": "neurons p ≤ 0.05", "max_abs_t": "max |t|"}
        ),
        f"{first} minus {second}",
    )
    how = "all relabellings" if test.info["exact"] else f"{test.info['n_permutations']} permutations"
    output.say(
        f"p is corrected over the neurons of all maps ({how} of whole texts; the smallest possible p is "
        f"{test.p_floor:.3g}). Layer and neuron are those of the largest |t|."
    )


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _write(out: Path, found: "Individuals", corpora: dict[str, str], amplitudes: Any, test: "MapTest | None") -> None:
    """Write everything to a new folder, which appears whole."""
    import pandas as pd

    from lmri.storage import save_img, versions, whole, write_json, write_table

    space, made = found.space, found.made_maps
    known = {True: "yes", False: "no", None: "unknown"}
    with whole(out) as folder:
        folder.mkdir()
        for name, maps in zip(found.names, found.maps, strict=True):
            save_img(space.to_img(maps, "estimate"), folder / "maps" / f"{name}.nii.gz")
        rows = {
            "text": found.names,
            "corpus": [corpora[name] for name in found.names],
            "n_volumes": [len(course) for course in found.time_courses],
            "made_networks": [known[made[name]] for name in found.names],
            "img": [f"maps/{name}.nii.gz" for name in found.names],
        }
        write_table(folder / "texts.tsv", pd.concat([pd.DataFrame(rows), amplitudes.add_prefix("amplitude_")], axis=1))
        about = {**found.info, "maps": found.networks.names, "left_out": list(found.left_out), "versions": versions()}
        if test is not None:
            for what, values, intent in (
                ("effect", test.effect, "estimate"), ("t", test.t, "t"), ("p", test.p, "none"),
            ):  # fmt: skip
                save_img(space.to_img(values, intent), folder / f"contrast_{what}.nii.gz")
            write_table(folder / "contrast.tsv", test.table)
            about["contrast"] = {**test.info, "family": test.family, "p_floor": test.p_floor}
        write_json(folder / "about.json", about)


@guarded
def order(
    study: StudyFolder,
    site: SiteOption = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus to take; may be repeated.", show_default="all at the site")
    ] = None,
    scope: Annotated[str, typer.Option(help="What is recommended: for all runs together (group), or a run.")] = "group",
    n_surrogates: Annotated[int, typer.Option(help="Surrogates, at least 19.")] = 20,
    figure: Annotated[Path | None, typer.Option(help="New SVG file for the scree plot.", show_default="none")] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Estimate how many networks there are, before any decomposition, against neurons shifted on their own."""
    from lmri.cli.stages import site_hint
    from lmri.decomposition.order import estimate_order
    from lmri.study import open_study

    output, opened = Output(quiet, json), open_study(study)
    check_new_figure("--figure", figure)
    recordings = opened.group(site, corpus)
    at, names = recordings[0].space.site, _run_names(recordings)
    with output.progress("Estimating the number of networks") as progress:
        found = estimate_order(_arrays(recordings, progress), n_surrogates, seed, scope=scope)
    table = found.table.assign(run=[names[run] for run in found.table["run"]])
    if len(table) <= MOST_ROWS:
        output.table(table.rename(columns={"n_volumes": "volumes", "parallel": "parallel analysis", "mdl": "MDL"}))
    else:
        output.table(found.distribution, f"Over {counted(len(names) - 1, 'run')}")
    over = "all runs together" if scope == "group" else f"the median of {counted(len(names) - 1, 'run')}"
    if found.recommended:
        output.say(f"Recommended: {found.recommended} components, by parallel analysis, {over}.")
    else:
        output.say(f"No component stands out of neurons shifted on their own ({over}). That is a result.")
    output.say("MDL takes neurons for independent samples, which they are not: it is there to be compared with.")
    if figure is not None:
        from lmri.report.figures import order_figure
        from lmri.storage import write_text

        write_text(figure, order_figure(found.curves))
        output.say(f"Figure: {quote(figure)}")
    if found.recommended:
        hint = site_hint(study, at)
        output.say(f"Next: lmri decompose {quote(study)} --method ica --n-components {found.recommended}{hint}")
    output.result(
        {
            "site": at,
            "scope": scope,
            "recommended": found.recommended,
            "at_ceiling": found.at_ceiling,
            "ceiling": found.ceiling,
            **found.info,
            "runs": records(table),
        }
    )


def _run_names(recordings: "Sequence[Recording]") -> list[str]:
    """Name all runs, and at 0, where `estimate_order` has it, the whole."""
    return ["all", *(f"{one.corpus} {run}" for one in recordings for run in range(1, len(one.runs) + 1))]


def _arrays(recordings: "Sequence[Recording]", progress: Any) -> "Iterator[np.ndarray]":
    total, done = sum(len(one.runs) for one in recordings), 0
    for recording in recordings:
        for array in recording.arrays():
            yield array
            done += 1
            progress(done, total)
