"""Routing table of a mixture of experts: the experts selected for each volume, and their weights.

The weights of all experts are read in the same passes, into separate images. If the router was not requested as a
site, these images stay hidden and are converted to tables when the recording is finalized. Loads no torch.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from lmri import storage
from lmri.space import NeuronSpace


def routing_table(space: NeuronSpace, img: Path) -> pd.DataFrame:
    """Convert an image of routers into a table with one row per volume and one column per block.

    Parameters
    ----------
    space : NeuronSpace
        Space whose neurons are the experts.
    img : Path
        Weights of the experts, 4D.

    Returns
    -------
    DataFrame
        Selected experts per cell, sorted by decreasing weight, as ``"5:0.6100 12:0.3900"``.
    """
    data = np.asanyarray(nib.load(img).dataobj)
    weights = data.reshape(-1, data.shape[-1], order="F").T[:, np.flatnonzero(space.inside)]
    columns = {}
    for z, layer in enumerate(space.layers):
        block = weights[:, space.offsets[z] : space.offsets[z + 1]]
        order = np.argsort(-np.abs(block), axis=1, kind="stable")
        columns[layer.name] = [
            " ".join(f"{expert}:{row[expert]:.4f}" for expert in experts if row[expert])
            for row, experts in zip(block, order, strict=True)
        ]
    return pd.DataFrame(columns)


def write_routing(space: NeuronSpace, img: Path, path: Path) -> None:
    """Convert the hidden image of a run to a table with a sidecar, next to its events; then delete the image."""
    table = routing_table(space, img)
    about = {
        name: {
            "Description": f"Experts that {name} gave the token to (of a word or sentence: any of its tokens, with the "
            "mean weight), as expert:weight, the heaviest first."
        }
        for name in table
    }
    storage.write_table(path, table)
    storage.write_json(storage.sidecar(path), about)
    storage.remove(img)
