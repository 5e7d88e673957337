"""Small `.edge` files of every layout, from which fuzzing starts: `python fuzz/seeds.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgespeech.compression.codes import lloyd_max, quantise
from edgespeech.compression.edge_file import Tensor, write_edge


def main(folder: Path) -> None:
    """Write the files, the same ones every time."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for bits in range(2, 9):
        for sparse in (False, True):
            weights = rng.standard_normal((3, 70 * bits), np.float32)
            mask = rng.random(weights.shape) < 0.5 if sparse else None
            tensors: dict[str, Tensor] = {
                "rows": quantise(weights, bits=bits, mask=mask),
                "groups": quantise(weights, bits=bits, mask=mask, group=64),
                "bias": weights[:1, :9],
                "half": weights[:2, :3].astype(np.float16),
            }
            if bits <= 6:
                tensors["learned"] = lloyd_max(weights, bits=bits, mask=mask)
            name = f"{bits}-{'sparse' if sparse else 'dense'}.edge"
            write_edge(folder / name, tensors, {"name": name})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
