"""Small `.edge` files of every layout, and small models, from which fuzzing starts: `python fuzz/seeds.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgespeech.packed.codes import lloyd_max, quantise
from edgespeech.packed.edge_file import Tensor, write_edge


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
    for predictor in ("stateless", "lstm"):
        write_edge(folder / f"{predictor}.edge", model(predictor, rng), {"name": predictor})
    for fast in ("sparse", "factorised", "narrow"):
        tensors = model("stateless", rng) | branches(fast, rng)
        write_edge(folder / f"{fast}.edge", tensors, {"name": fast})


BANDS, STACK, HIDDEN = 3, 2, 9


def branches(fast: str, rng: np.random.Generator) -> dict[str, Tensor]:
    """The tensors of a fast branch and an arbitrator beside those of `model`, of every encoding."""
    rank, units, arbitrator = 4, 5 if fast == "narrow" else HIDDEN, 2
    layer, lstm = "transcriber.fast.0", "transcriber.arbitrator.lstm"
    shapes = {
        f"{lstm}.weight_ih_l0": (4 * arbitrator, STACK * BANDS),
        f"{lstm}.weight_hh_l0": (4 * arbitrator, arbitrator),
        "transcriber.arbitrator.leave.weight": (1, arbitrator),
    }
    if fast == "factorised":
        shapes |= {f"{layer}.inner_{each}": (rank, HIDDEN) for each in ("ih", "hh")}
        shapes[f"{layer}.outer"] = (4 * HIDDEN, rank)
    else:
        shapes |= {f"{layer}.weight_{each}": (4 * units, units) for each in ("ih", "hh")}
    tensors: dict[str, Tensor] = {}
    for index, (name, shape) in enumerate(shapes.items()):
        weights = rng.standard_normal(shape, np.float32)
        tensors[name] = [quantise(weights, bits=8), weights, quantise(weights, bits=4, mask=weights > 0)][
            index % 3
        ]
    widths = {
        f"{layer}.bias": 4 * units,
        f"{lstm}.bias": 4 * arbitrator,
        "transcriber.arbitrator.leave.bias": 1,
    }
    return tensors | {name: rng.standard_normal((1, width), np.float32) for name, width in widths.items()}


def model(predictor: str, rng: np.random.Generator) -> dict[str, Tensor]:
    """The tensors of a model, as `edgespeech.packed.runtime.PackedModel` takes them, of every encoding."""
    bands, stack, hidden = BANDS, STACK, HIDDEN
    joiner, vocabulary, context = 7, 5, 2
    lstm = "transcriber.lstms.0"
    shapes = {
        "transcriber.enter": (hidden, stack * bands),
        f"{lstm}.weight_ih_l0": (4 * hidden, hidden),
        f"{lstm}.weight_hh_l0": (4 * hidden, hidden),
        "transcriber.leave.1": (joiner, hidden),
        "predictor.leave": (joiner, joiner),
        "joiner": (vocabulary, joiner),
    }
    if predictor == "stateless":
        shapes["predictor.mix"] = (joiner, context * joiner)
    else:
        shapes |= {f"predictor.lstm.weight_{each}_l0": (4 * joiner, joiner) for each in ("ih", "hh")}
    embedding = rng.standard_normal((vocabulary, joiner), np.float32)
    widths = {
        "transcriber.mean": bands,
        "transcriber.scale": bands,
        "transcriber.norms.0.weight": hidden,
        "transcriber.norms.0.bias": hidden,
        "transcriber.leave.0.weight": hidden,
        "transcriber.leave.0.bias": hidden,
    }
    tensors: dict[str, Tensor] = {
        "predictor.embedding.weight": quantise(embedding, bits=5, mask=embedding > 0)
    }
    for index, (name, shape) in enumerate(shapes.items()):
        weights = rng.standard_normal(shape, np.float32)
        encodings: list[Tensor] = [
            quantise(weights, bits=4, mask=weights > 0),
            quantise(weights, bits=8),
            weights.astype(np.float16),
            weights,
        ]
        recurrent = "lstm" in name
        tensors[name if recurrent else f"{name}.weight"] = encodings[index % len(encodings)]
        widths[name.rsplit(".", 1)[0] + ".bias" if recurrent else f"{name}.bias"] = shape[0]
    return tensors | {name: rng.standard_normal((1, width), np.float32) for name, width in widths.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
