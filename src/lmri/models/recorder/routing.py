"""The routing table of a mixture: which experts a volume was given to, and with what weight.

The weights of all experts are read in the same passes, into images of their own. Where they were not asked for as a
site, the images stay hidden, and become tables as the recording is put into its place. Loads no torch.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from lmri import storage
from lmri.space import NeuronSpace


def routing_table(space: NeuronSpace, img: Path) -> pd.DataFrame:
    """Turn an image of routers into a table with a row a volume and a column a block.

    Parameters
    ----------
    space : NeuronSpace
        Experts are its neurons.
    img : Path
        Their weights, 4D.

    Returns
    -------
    DataFrame
        In each cell the experts that were chosen, the heaviest first, as ``"5:0.6100 12:0.3900"``.
    """
    data = np.asanyarray(nib.load(img).dataobj)
    weights = data.reshape(-1, data.shape[-1], order="F").T[:, np.flatnonzero(space.inside)]
    columns = {}
    for z, layer in enumerate(space.layers):
        own = weights[:, space.offsets[z] : space.offsets[z + 1]]
        order = np.argsort(-np.abs(own), axis=1, kind="stable")
        columns[layer.name] = [
            " ".join(f"{expert}:{row[expert]:.4f}" for expert in places if row[expert])
            for row, places in zip(own, order, strict=True)
        ]
    return pd.DataFrame(columns)


def write_routing(space: NeuronSpace, img: Path, path: Path) -> None:
    """Write the table of a run beside its events, with a sidecar, from a hidden image; then delete that."""
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
