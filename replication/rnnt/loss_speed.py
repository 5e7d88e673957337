"""Time and memory of this project's transducer loss and torchaudio's, on the same joiner; prints JSON.

python replication/rnnt/loss_speed.py --peer-python PATH   # PATH: an interpreter that imports torchaudio
python replication/rnnt/loss_speed.py                      # ours, and the joiner alone

A run is forward and backward of joiner and loss, down to the gradients of the encoded frames, the predictions and
the joiner's weights. torchaudio's loss takes logits, so its run computes them with the plain joiner; `joiner_alone` is
that part without any loss, a lower bound for every loss that takes logits. Each implementation has a separate process,
and their runs alternate.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Any]


def make_inputs(sizes: argparse.Namespace) -> Inputs:
    """A seeded batch without padding: `encoded`, `predicted`, the joiner's weights, labels and lengths."""
    draw = torch.Generator().manual_seed(0)
    batch, frames, labels, joiner, vocabulary = (
        getattr(sizes, name) for name in ("batch", "frames", "labels", "joiner", "vocabulary")
    )
    return {
        "encoded": torch.randn(batch, frames, joiner, generator=draw).requires_grad_(),
        "predicted": torch.randn(batch, labels + 1, joiner, generator=draw).requires_grad_(),
        "weight": (torch.randn(vocabulary, joiner, generator=draw) / joiner**0.5).requires_grad_(),
        "bias": torch.randn(vocabulary, generator=draw).requires_grad_(),
        "labels": torch.randint(1, vocabulary, (batch, labels), generator=draw),
        "frame_lengths": torch.full((batch,), frames),
        "label_lengths": torch.full((batch,), labels),
    }


def joined(inputs: Inputs) -> Tensor:
    """The whole tensor of logits, with shape `(B, T, U + 1, V)`."""
    hidden = torch.tanh(inputs["encoded"][:, :, None] + inputs["predicted"][:, None])
    return torch.nn.functional.linear(hidden, inputs["weight"], inputs["bias"])


def implementation(name: str, memory_mib: float) -> Callable[[Inputs], Tensor]:
    """A function that computes the batch's summed loss."""
    if name == "ours":
        from edgespeech.model.loss import transducer_loss

        return lambda inputs: transducer_loss(**inputs, memory_mib=memory_mib).sum()
    if name == "joiner_alone":
        return lambda inputs: joined(inputs).mean()
    functional = importlib.import_module("torchaudio").functional

    def torchaudio_loss(inputs: Inputs) -> Tensor:
        lengths = (inputs[name].int() for name in ("labels", "frame_lengths", "label_lengths"))
        loss: Tensor = functional.rnnt_loss(joined(inputs), *lengths, blank=0, reduction="sum")
        return loss

    return torchaudio_loss


def work(sizes: argparse.Namespace) -> None:
    """The process of one implementation: a line of JSON for every line read, and one with the memory at the end."""
    torch.set_num_threads(sizes.threads)
    run = implementation(sizes.worker, sizes.memory_mib)
    small = argparse.Namespace(**{**vars(sizes), "batch": 1, "frames": 2, "labels": 1})
    torch.autograd.backward(
        run(make_inputs(small))
    )  # modules loaded on first use do not count as the loss's memory
    inputs = make_inputs(sizes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for _ in sys.stdin:
        for tensor in inputs.values():
            tensor.grad = None
        wall, processor = time.perf_counter(), time.process_time()
        loss = run(inputs)
        torch.autograd.backward(loss)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = {
            "loss": loss.item(),
            "wall_s": wall,
            "cpu_s": processor,
            "added_mib": (peak - before) / 1024,
        }
        print(json.dumps(answer), flush=True)


def compare(sizes: argparse.Namespace) -> dict[str, Any]:
    """Alternate the implementations' runs; the first of each is not counted."""
    interpreters = {"ours": sys.executable, "joiner_alone": sys.executable}
    if sizes.peer_python is not None:
        interpreters["torchaudio"] = sizes.peer_python
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in interpreters}
    versions = {}
    with ExitStack() as stack:
        processes = {}
        for name, interpreter in interpreters.items():
            command = [interpreter, __file__, *sys.argv[1:], "--worker", name]
            processes[name] = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            )
        for name, process in processes.items():
            versions[name] = answer(name, process)["torch"]
        for _ in range(sizes.repeats + 1):
            for name, process in processes.items():
                assert process.stdin is not None
                process.stdin.write("run\n")
                runs[name].append(answer(name, process))
    if "torchaudio" in runs:
        ours, theirs = runs["ours"][0]["loss"], runs["torchaudio"][0]["loss"]
        if not abs(ours - theirs) <= 1e-4 * abs(theirs):
            sys.exit(
                f"loss_speed: ours is {ours}, torchaudio's {theirs}: not the same loss, so no comparison"
            )
    report: dict[str, Any] = {
        key: value for key, value in vars(sizes).items() if key not in ("worker", "peer_python")
    }
    for name, counted in runs.items():
        report[name] = {"torch": versions[name], "added_mib": counted[-1]["added_mib"]}
        for clock in ("wall_s", "cpu_s"):
            report[name][clock] = statistics.median(one[clock] for one in counted[1:])
    report["ours_over"] = {
        name: {key: report["ours"][key] / report[name][key] for key in ("wall_s", "cpu_s", "added_mib")}
        for name in runs
        if name != "ours"
    }
    return report


def answer(name: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line of an implementation; if there is none, its error is on stderr."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit(f"loss_speed: the process of {name} ended, see above")
    found: dict[str, Any] = json.loads(line)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of the transducer loss.")
    for name, value in (("batch", 20), ("frames", 75), ("labels", 22), ("joiner", 320), ("vocabulary", 128)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--memory-mib", type=float, default=64.0, help="what our loss may take")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15, help="runs of each that count")
    parser.add_argument("--peer-python", help="an interpreter that imports torchaudio")
    parser.add_argument("--worker", choices=("ours", "joiner_alone", "torchaudio"), help=argparse.SUPPRESS)
    sizes = parser.parse_args()
    if sizes.worker:
        work(sizes)
    else:
        print(json.dumps(compare(sizes), indent=2))


if __name__ == "__main__":
    main()
