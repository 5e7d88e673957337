"""Training the language model of the second pass, and tuning its scales; `experiment.py` measures both.

Three steps of the pipeline, which the full profile of `edgespeech replicate lattices` makes: `train_lm` (lm.yaml; 25
minutes of one thread), `tune_scales` (scales.yaml: the scales of each arm, by assistant_dev) and `ship`
(results/models/second-pass: packed model, scales, words).

edgespeech replicate lattices --second-pass            # these steps alone, in one process
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from replication.lattices.lists import ARMS, LatticeCodec, expanded, sent

from edgespeech.core.config import words_in
from edgespeech.core.files import sha256_file
from edgespeech.core.folders import switch_files
from edgespeech.core.places import manifests_dir, shipped_models, work_dir
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest
from edgespeech.corpora.step import is_corpus
from edgespeech.lattice.codec import Precision, Vocabulary
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.search import lattice_of
from edgespeech.model.checkpoint import WEIGHTS, Trained, load_model, model_files
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
from edgespeech.steps.step import Step
from edgespeech.steps.store import Job, folder_of
from edgespeech.synthesis.step import speech_steps

HERE = Path(__file__).parent
MODULE = "replication.lattices.rescore"
CONFIG = HERE / "lm.yaml"
TUNED = HERE / "scales.yaml"
DEVELOPMENT = "corpora/assistant/assistant_dev.jsonl"
"""In the work folder."""
TUNED_ON = 120
"""Number of its utterances, which take some minutes."""
BITS = 7
"""Bits per weight of the shipped language model: with 8 its file would have more than 10 MB."""
WORDS = HERE / "words.txt"
"""The vocabulary of messages, see `experiment.py`."""


def lm_step() -> Step:
    """The step that trains the language model."""
    config = load_yaml(CONFIG)
    corpora = [word for word in words_in([config["text"], config["held_out"]]) if is_corpus(word)]
    return Step(
        rule="train_lm",
        name=config["name"],
        function=f"{MODULE}:make_lm",
        given={"config": config},
        needs=speech_steps(corpora),
        inputs=tuple(
            manifests_dir() / "grammars" / f"{one['grammar']}.yaml"
            for one in config["text"]
            if "grammar" in one
        ),
        code=("edgespeech.secondpass.training",),
        without=("core", "records", "corpora"),
    )


def run_folder() -> Path:
    """Where the language model is trained."""
    return folder_of(lm_step())


def steps() -> list[Step]:
    """All that the second pass needs, as it ships."""
    lm, folder = lm_step(), shipped_models() / "edge-fp32"
    scales = Step(
        rule="tune_scales",
        name=lm.name,
        function=f"{MODULE}:make_scales",
        given={"ours": ours(), "utterances": TUNED_ON},
        needs=(lm, *speech_steps([DEVELOPMENT])),
        inputs=(*(folder / name for name in model_files(folder)), WORDS),
        code=("edgespeech.secondpass.tuning", "edgespeech.lattice.search", "replication.lattices.lists"),
        without=("core", "records", "corpora"),
        here=True,
    )
    return [
        Step(
            rule="ship",
            name=lm.name,
            function=f"{MODULE}:ship",
            given={"bits": BITS},
            needs=(lm, scales, *speech_steps([DEVELOPMENT])),
            inputs=(WORDS,),
            code=("edgespeech.secondpass.model",),
            without=("core", "records", "corpora"),
            here=True,
        )
    ]


def make_lm(job: Job) -> list[Path]:
    """Train the language model, or go on."""
    torch.set_num_threads(job.resources.threads)
    train_lm(load_lm_config(CONFIG), job.folder)
    return [job.folder / MODEL]


def make_scales(job: Job) -> list[Path]:
    """Choose the scales."""
    del job
    torch.set_num_threads(1)
    tune_all()
    return [TUNED]


def ship(job: Job) -> list[Path]:
    """Ship the language model, the scales and the words."""
    del job
    publish()
    folder = shipped_second_pass()
    return [folder / LM, folder / SCALES, folder / VOCABULARY]


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
    errors = load_yaml(TUNED)["provenance"]["errors"]
    arm = min((arm.name for arm in ARMS if arm.paths == "lattice"), key=errors.__getitem__)

    def fill(models: Path) -> None:
        made = models / folder.name
        save_lm(made / LM, lm.model, lm.tokeniser, lm.provenance, bits=BITS)
        save_scales(
            made / SCALES, {NAME: load_scales(TUNED)[arm]}, {"arm": arm, "scales_sha256": sha256_file(TUNED)}
        )
        Vocabulary.load(WORDS).save(made / VOCABULARY)

    switch_files(folder.parent, fill)  # no reader may find files of two models
    manifest = manifest_of(str(work_dir() / DEVELOPMENT))
    sentences = [item.text for item in manifest.utterances]
    told = {
        "bytes": (folder / LM).stat().st_size,
        "parameters": lm.parameters,
        "perplexity_of_a_word": perplexity(lm, sentences).of_word,
        "perplexity_of_a_word_packed": perplexity(load_lm(folder / LM), sentences).of_word,
    }
    print(json.dumps(told, indent=1))
