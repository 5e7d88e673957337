"""Training the language model of the second pass, and tuning its scales; `experiment.py` measures both.

python replication/lattices/rescore.py train           # lm.yaml, in .work/runs (25 minutes of one thread; resumes)
python replication/lattices/rescore.py tune            # scales.yaml: the scales of each arm, by assistant_dev
python replication/lattices/rescore.py publish         # results/models/second-pass: packed model, scales, words

Each command uses the output of the one before it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from replication.lattices.lists import ARMS, LatticeCodec, expanded, sent

from edgespeech.core.files import sha256_file
from edgespeech.core.places import shipped_models, work_dir
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest
from edgespeech.lattice.codec import Precision, Vocabulary
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.search import lattice_of
from edgespeech.model.checkpoint import WEIGHTS, Trained, load_model
from edgespeech.secondpass.config import load_lm_config
from edgespeech.secondpass.folder import LM, SCALES, VOCABULARY, shipped_second_pass
from edgespeech.secondpass.model import load_lm, save_lm
from edgespeech.secondpass.scoring import InternalScorer, RememberingScorer
from edgespeech.secondpass.service import NAME
from edgespeech.secondpass.training import MODEL, perplexity, train_lm
from edgespeech.secondpass.tuning import (
    START,
    Candidates,
    Tuned,
    assert_tunable,
    candidates,
    load_scales,
    save_scales,
    tune,
)

HERE = Path(__file__).parent
CONFIG = HERE / "lm.yaml"
TUNED = HERE / "scales.yaml"
DEVELOPMENT = "corpora/assistant/assistant_dev.jsonl"
"""In the work folder; made by `python -m edgespeech.synthesis.synthesis data_manifests/assistant/dev.yaml`."""
TUNED_ON = 120
"""Number of its utterances, which take some minutes."""
BITS = 7
"""Bits per weight of the shipped language model: with 8 its file would have more than 10 MB."""
WORDS = HERE / "words.txt"
"""The vocabulary of messages, see `experiment.py`."""


def run_folder() -> Path:
    """The folder of the language model's training."""
    return work_dir() / "runs" / load_lm_config(CONFIG).name


def ours() -> dict[str, Any]:
    """The search settings of sent lattices, see `config.yaml`."""
    content = load_yaml(HERE / "config.yaml")
    made: dict[str, Any] = content["ours"]
    return made


def lattices(trained: Trained, manifest: Manifest) -> Iterator[tuple[str, Lattice]]:
    """The reference of each utterance, and the lattice of the device's search."""
    how = ours()
    for item in manifest.utterances:
        samples = manifest.read(item)
        yield item.text, lattice_of(trained, samples, how["beam"], how["merge"])


def codec() -> LatticeCodec:
    """The encoding of lattices."""
    how = ours()
    precision = Precision(step_exponent=how["step_exponent"])
    return LatticeCodec(width=how["width"], vocabulary=Vocabulary.load(WORDS), precision=precision)


def find_scales(
    found: Iterable[tuple[str, Lattice]], scorer: RememberingScorer, internal: InternalScorer
) -> dict[str, Tuned]:
    """Tune the scales of every arm on lattices and references."""
    sending = codec()
    cases: dict[int | str, list[Candidates]] = {arm.paths: [] for arm in ARMS}
    one_of_each = {arm.paths: arm for arm in ARMS}
    for text, lattice in found:
        for paths, arm in one_of_each.items():
            arrived, _ = sent(lattice, arm, sending)
            cases[paths].append(candidates(expanded(arrived, scorer, internal, START), text))
        scorer.forget()
    return {arm.name: tune(cases[arm.paths], internal=arm.internal) for arm in ARMS}


def tune_all() -> None:
    """Tune the scales on the development set, and write them with their provenance."""
    manifest = manifest_of(str(work_dir() / DEVELOPMENT)).subset(TUNED_ON, load_lm_config(CONFIG).seed)
    assert_tunable(manifest)
    folder = shipped_models() / "edge-fp32"
    trained, lm = load_model(folder), load_lm(run_folder() / MODEL)
    scorer = RememberingScorer(lm)
    internal = InternalScorer(trained.model, trained.tokeniser)
    found = find_scales(lattices(trained, manifest), scorer, internal)
    known = perplexity(lm, [item.text for item in manifest.utterances])
    provenance: dict[str, object] = {
        "manifest": manifest.name,
        "manifest_sha256": manifest.sha256,
        "utterances": len(manifest.utterances),
        "language_model_sha256": sha256_file(run_folder() / MODEL),
        "language_model_step": lm.provenance["step"],
        "device_model_sha256": sha256_file(folder / WEIGHTS),
        "lattices": json.dumps(ours()),
        "perplexity_of_a_word": round(known.of_word, 2),
        "words": known.words,
        "errors_before": {name: tuned.errors_before for name, tuned in found.items()},
        "errors": {name: tuned.errors for name, tuned in found.items()},
    }
    for name, tuned in found.items():
        print(
            f"{name}: {tuned.errors} of {tuned.words} words wrong, {tuned.errors_before} before, {tuned.scales}"
        )
    save_scales(TUNED, {name: tuned.scales for name, tuned in found.items()}, provenance)


def publish() -> None:
    """Pack the language model, and publish it with scales and vocabulary.

    The scales are those of the arm that sends the lattice and makes fewer errors on the development set.
    """
    lm = load_lm(run_folder() / MODEL)
    folder = shipped_second_pass()
    save_lm(folder / LM, lm.model, lm.tokeniser, lm.provenance, bits=BITS)
    errors = load_yaml(TUNED)["provenance"]["errors"]
    arm = min((arm.name for arm in ARMS if arm.paths == "lattice"), key=errors.__getitem__)
    save_scales(
        folder / SCALES, {NAME: load_scales(TUNED)[arm]}, {"arm": arm, "scales_sha256": sha256_file(TUNED)}
    )
    Vocabulary.load(WORDS).save(folder / VOCABULARY)
    manifest = manifest_of(str(work_dir() / DEVELOPMENT))
    sentences = [item.text for item in manifest.utterances]
    told = {
        "bytes": (folder / LM).stat().st_size,
        "parameters": lm.parameters,
        "perplexity_of_a_word": perplexity(lm, sentences).of_word,
        "perplexity_of_a_word_packed": perplexity(load_lm(folder / LM), sentences).of_word,
    }
    print(json.dumps(told, indent=1))


def main() -> None:
    """Run the command line; see the module's docstring."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("command", choices=("train", "tune", "publish"))
    options.add_argument("--threads", type=int, default=1, help="of this process")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    if given.command == "train":
        print(train_lm(load_lm_config(CONFIG), run_folder()))
    elif given.command == "tune":
        tune_all()
    else:
        publish()


if __name__ == "__main__":
    main()
