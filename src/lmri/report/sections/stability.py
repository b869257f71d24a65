"""Order selection and stability section: number of maps, its estimation, and reproducibility of the maps."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lmri import storage
from lmri.decomposition.codec import DECOMPOSITION_CODEC, reliability
from lmri.networks import LOCALIZER, NetworkSet
from lmri.report import figures
from lmri.report.charts import stability_chart
from lmri.storage.entries import Entry
from lmri.storage.tolerant import ReportReader

MEASURES = {
    "iq": "Iq over initializations",
    "iq_texts": "Iq over bootstraps of the texts",
    "split_half_r": "|r| between halves of the texts",
}


def stability(reader: ReportReader) -> list[dict[str, Any]]:
    """Format every decomposition: its order, convergence, and stability across initializations and texts."""
    rows = []
    for entry in reader.entries["decompositions"]:
        if entry.parameters.get("method") == LOCALIZER:
            continue
        description = f"Decomposition {entry.name!r} at {entry.site}"
        maps = reader.attempt(description, partial(reader.study.open, DECOMPOSITION_CODEC, entry.name, entry.site))
        if maps is not None:
            rows.append(_laid_out(reader, entry, maps))
    return rows


def _laid_out(reader: ReportReader, entry: Entry, maps: NetworkSet) -> dict[str, Any]:
    parameters, results, metrics = entry.parameters, entry.results, maps.metrics
    curves = reader.attempt(f"Order of {entry.name!r} at {entry.site}", partial(_order, reader, entry))
    curve = reader.attempt(
        f"Reliability of {entry.name!r} at {entry.site}", partial(reliability, reader.study, entry.name, entry.site)
    )
    known = [name for name in MEASURES if name in metrics and metrics[name].notna().any()]
    null = metrics["split_half_null"].to_numpy(dtype=float) if "split_half_r" in known else None
    order = results.get("order", {})
    return {
        "anchor": f"dec-{entry.site}-{entry.name}",
        "name": entry.name,
        "site": entry.site,
        "method": parameters["method"],
        "n_maps": len(maps),
        "asked": parameters.get("n_components", ""),
        "order": order,
        "scree": None if curves is None else figures.order_figure(curves),
        "convergence": results["convergence"],
        "n_bootstraps": parameters.get("n_bootstraps", 0),
        "n_splits": parameters.get("n_splits", 0),
        "measures": [(name, MEASURES[name], *_spread(metrics[name])) for name in known],
        "null": None if null is None or not np.isfinite(null).any() else float(np.nanmedian(null)),
        "n_beyond": _n_beyond(metrics) if null is not None else 0,
        "chart": stability_chart([(name, metrics[name].to_numpy(dtype=float)) for name in known], null)
        if known
        else "",
        "reliability": None if curve is None or not len(curve) else figures.reliability_figure(curve),
    }


def _order(reader: ReportReader, entry: Entry) -> pd.DataFrame | None:
    """Read the eigenvalue curves of the order estimate, if the number of maps was estimated."""
    path = reader.study.file_of(entry)("order.tsv")
    return storage.read_table(path) if path.is_file() else None


def _spread(values: pd.Series) -> tuple[float, float, float]:
    return float(values.median()), float(values.min()), float(values.max())


def _n_beyond(metrics: pd.DataFrame) -> int:
    return int((metrics["split_half_r"] > metrics["split_half_null"]).sum())
