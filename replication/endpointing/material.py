"""The inputs of the measurement: the recogniser, its scorers, and every set of utterances, decoded once.

This does not use `edgespeech.harness.hear`: a policy may end an utterance after any frame, so the scores and the text
after each frame are needed, and `hear` returns only the last text. Word errors are counted as everywhere
(`edgespeech.metrics.word_errors`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from replication.endpointing.curves import Sweep, sweep
from replication.endpointing.listening import Heard, listen
from replication.endpointing.sets import Case, SetConfig, cases

from edgespeech.core import places
from edgespeech.core.files import sha256_file
from edgespeech.corpora.fetch import manifest_of
from edgespeech.endpointing.networks import Networks, load_networks
from edgespeech.endpointing.scorers import Bounds, Scorers, scorers
from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.word_errors import WordErrors, word_errors_of
from edgespeech.model.checkpoint import WEIGHTS, Trained, load_model
from edgespeech.records.records import sha256_json, without_paths
from edgespeech.search.settings import SearchSettings
from edgespeech.systems.edge_fp32 import EdgeFp32

NORMALISER = "whisper-en"
Config = dict[str, Any]


def recogniser() -> tuple[Trained, str]:
    """The recogniser whose frames are scored, and the hash of its weights.

    Raises:
        EdgeSpeechError: there is none.
    """
    found = EdgeFp32()
    if (missing := found.missing()) is not None:
        raise EdgeSpeechError(missing)
    torch.set_num_threads(1)
    sha256 = sha256_file(found.folder() / WEIGHTS)
    return _loaded(found.folder(), sha256), sha256


@lru_cache(maxsize=1)
def _loaded(folder: Path, sha256: str) -> Trained:
    del sha256  # the argument is the cache key: other weights in the same folder are loaded again
    return load_model(folder)


def learned() -> Networks:
    """The learned scorers' networks.

    Raises:
        EdgeSpeechError: they are missing, or belong to another recogniser.
    """
    return load_networks(places.networks_file(), recogniser()[1])


def known_scorers(config: Config) -> tuple[Scorers, dict[str, str]]:
    """Every scorer by name, and the reasons for missing ones.

    Raises:
        EdgeSpeechError: the networks are missing or belong to another recogniser.
    """
    return scorers(learned(), Bounds.model_validate(config["bounds"]))


def search_of(config: Mapping[str, Any]) -> SearchSettings:
    """The search settings of a record; records from before `search` was a setting had no language model."""
    given = config.get("search", {"beam": config["beam"], "language_model": False})
    return SearchSettings(**given)


def set_cases(config: Config, values: Config) -> Iterator[Case]:
    """The utterances of a set of the configuration, fewer in the quick profile.

    Raises:
        EdgeSpeechError: its corpus or noises are missing.
    """
    what = SetConfig.model_validate(values)
    name = what.corpus
    if name.endswith(".jsonl") and not Path(name).exists():
        name = str(places.work_dir() / name)
    manifest = manifest_of(name)
    count = what.quick if config["profile"] == "quick" and what.quick else what.utterances
    if count is not None:
        manifest = manifest.subset(count, config["seed"])
    noises = {}
    if what.noises is not None:
        recorded = manifest_of(what.noises)
        noises = {one.id: recorded.read(one) for one in recorded.utterances}
    yield from cases(manifest, what, recogniser()[0], noises, config["seed"])


_heard: dict[str, list[Heard]] = {}


def heard_set(config: Config, name: str) -> list[Heard]:
    """A set with the scores of all scorers, cached for all checks; `tuning` is the one for thresholds.

    Raises:
        EdgeSpeechError: as for `set_cases`, or the networks are missing or belong to another recogniser.
    """
    (trained, sha256), (known, _) = recogniser(), known_scorers(config)
    values = config["tuning"] if name == "tuning" else config["sets"][name]
    decides = [config[key] for key in ("profile", "seed", "bounds")]
    search = search_of(config)
    key = sha256_json([values, decides, search.describe(), sha256, sha256_file(places.networks_file())])
    if key not in _heard:
        _heard[key] = [listen(trained, search, case, known) for case in set_cases(config, values)]
        print(f"{name}: {len(_heard[key])} utterances decoded", flush=True)
    return _heard[key]


def each_set(config: Config) -> Iterator[tuple[str, list[Heard] | str]]:
    """Every evaluation set by name, or why it is not available here."""
    for name in config["sets"]:
        try:
            yield name, heard_set(config, name)
        except EdgeSpeechError as error:
            yield name, without_paths(str(error))


def word_errors(config: Config, name: str, heard: list[Heard], seed: int = 0) -> WordErrors:
    """`WordErrors` of a set; references are normalised as configured for the corpus."""
    normaliser = config["normaliser"].get(config["sets"][name]["corpus"], NORMALISER)
    cases = [one.case for one in heard]
    return word_errors_of(
        [case.text for case in cases], normaliser, [case.speaker for case in cases], seed=seed
    )


def tuned_sweeps(config: Config) -> dict[str, Sweep]:
    """Every scorer's sweep of the tuning set."""
    heard = heard_set(config, "tuning")
    return {
        name: sweep([one.of(name) for one in heard], chunk_s=config["chunk_s"]) for name in heard[0].scores
    }
