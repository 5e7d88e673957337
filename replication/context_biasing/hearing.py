"""What each arm writes with each list: steps of the pipeline, so that nothing is recognised twice.

A step hears one set with one model and stores the transcripts of every variant: `label`, the list (`count` and `kind`,
or `list`, one of the project's), and the `boost` of a letter. The models are in single precision, run by the native
engine; `hear_lattices` stores some transcripts by torch to compare.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from replication.context_biasing.attention import trained_arms
from replication.context_biasing.lists import Case, Set, set_of
from replication.context_biasing.search import (
    Counted,
    count_texts,
    engine_of,
    hypotheses,
    lattice_texts,
    lattices_of,
    shortened,
    text_of,
    torch_arm,
)

from edgespeech.arms.configuration import compression_base
from edgespeech.biasing.phrases import BOOST, PhraseBias
from edgespeech.core.files import write_atomic
from edgespeech.core.places import edge_model, manifests_dir
from edgespeech.corpora.phrases import load_phrases
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import Trained, load_model, model_files
from edgespeech.search.settings import SearchSettings
from edgespeech.steps.step import Step
from edgespeech.steps.store import Job, SkippedError, folder_of, make
from edgespeech.synthesis.step import speech_steps
from edgespeech.text.normalise import normalisers

Config = Mapping[str, Any]
SHIPPED, BASE = "edge-fp32", "compression-base"
"""Models that are no arms: the one that ships, and the one that the arms go on from."""
NONE, EMPTY = "none", "empty"
FILE = "heard.json"
_CODE = tuple(f"replication.context_biasing.{name}" for name in ("hearing", "lists", "search"))
_WITHOUT = ("core", "records", "corpora")
_MODULE = "replication.context_biasing.hearing"  # also where this file is a copy


def label_of(arm: str, count: int, kind: str = "full") -> str:
    """The label of a variant."""
    return f"{arm}, {count} {kind}"


def variant(arm: str, count: int, boost: float, kind: str = "full") -> dict[str, Any]:
    """A variant as a step's argument."""
    return {"label": label_of(arm, count, kind), "count": count, "kind": kind, "boost": boost}


def plain() -> dict[str, Any]:
    """The variant without a list."""
    return {"label": NONE, "count": 0, "kind": "full", "boost": 0.0}


def fusion_variants(config: Config, how: Config) -> list[dict[str, Any]]:
    """All lists of shallow fusion in the search."""
    most = config["headline"]
    found = [variant("fusion", count, BOOST) for count in dict.fromkeys([*config["counts"], most])]
    found += [variant("fusion", most, BOOST, kind) for kind in ("oracle", "absent", "anti")]
    found += [{"label": f"list {name}", "list": name, "boost": BOOST} for name in how.get("lists", ())]
    return [plain(), *found]


def hear_step(
    config: Config,
    name: str,
    model: str = SHIPPED,
    variants: Sequence[Config] | None = None,
    needs: tuple[Step, ...] = (),
) -> Step:
    """The step that hears a set with a model.

    Args:
        config: of the page.
        name: of the set.
        model: `edge-fp32`, `compression-base`, or a trained arm.
        variants: of the lists; None: `fusion_variants`.
        needs: the training of the arm.

    Raises:
        EdgeSpeechError: a recipe of its speech is wrong.
    """
    how = config["sets"][name]
    given = _given(config, name) | {
        "model": model,
        "beam": config["beam"],
        "shortlist": config["shortlist"],
        "variants": list(fusion_variants(config, how) if variants is None else variants),
    }
    return _step("hear_lists", f"{name}/{model}/{_amount(given)}", f"{_MODULE}:hear", given, needs)


def lattice_step(config: Config, name: str) -> Step:
    """The step that makes the lattices of a set, and some transcripts by torch."""
    profile = config[config["profile"]]
    how, most = config["lattice"], profile["lattices"]
    given = _given(config, name) | {
        **how, "list": config["headline"], "boost": BOOST, "most": most, "torch": profile["torch"],
        "beam_of_torch": config["beam"], "shortlist": config["shortlist"], "long": max(config["counts"]),
    }  # fmt: skip
    return _step("lattices_of_lists", f"{name}/{most}", f"{_MODULE}:hear_lattices", given, ())


def _given(config: Config, name: str) -> dict[str, Any]:
    how = dict(config["sets"][name])
    count = config[config["profile"]]["utterances"]
    count = how.pop("most", None) if count is None else count
    return {"set": name, "how": how, "seed": config["seed"], "utterances": count}


def _amount(given: Config) -> str:
    return "all" if given["utterances"] is None else str(given["utterances"])


def _step(rule: str, name: str, function: str, given: Config, needs: tuple[Step, ...]) -> Step:
    models = [folder / file for folder in (edge_model(), compression_base()) for file in model_files(folder)]
    return Step(
        rule=rule,
        name=name,
        function=function,
        given=given,
        needs=(*speech_steps(given["how"]["corpora"]), *needs),
        inputs=(*models, *sorted((manifests_dir() / "contexts").glob("*.txt"))),
        code=_CODE,
        without=_WITHOUT,
        anyway=True,
    )


def trained_of(name: str) -> Trained:
    """A model by its name, see `hear_step`. An arm gets the language model of what it goes on from.

    Raises:
        EdgeSpeechError: it is not on this machine.
    """
    if name == SHIPPED:
        return load_model(edge_model())
    base = load_model(compression_base())
    if name == BASE:
        return base
    arms = trained_arms()
    return replace(load_model(arms.model_folder(arms.arms[name])), fusion=base.fusion)


def _set(given: Config) -> tuple[Set, dict[str, str]]:
    try:
        return set_of(given["set"], dict(given["how"]), seed=given["seed"], count=given["utterances"])
    except EdgeSpeechError as error:
        raise SkippedError(str(error)) from error


def phrases_of(one: Set, case: Case, how: Config) -> tuple[str, ...]:
    """The list of a case in a variant."""
    if "list" in how:
        return load_phrases(how["list"])
    return one.phrases(case, how["count"], how["kind"])


def hear(job: Job) -> list[Path]:
    """Recognise a set with every list; `heard.json` has the texts by variant, in the set's order."""
    torch.set_num_threads(1)
    given = job.given
    one, missing = _set(given)
    trained = trained_of(given["model"])
    attends, short = trained.model.biasing is not None, given["shortlist"]
    texts: dict[str, list[str]] = {how["label"]: [] for how in given["variants"]}
    empty: list[bool] = []
    with engine_of(trained, given["model"]) as model:
        nothing = PhraseBias(model.pieces, ())
        for case in map(replace, one.cases):  # a copy, whose audio goes with it
            lists = [phrases_of(one, case, how) for how in given["variants"]]
            if attends:
                lists = [
                    shortened(trained, case, some, short) if len(some) > short else some for some in lists
                ]
            biases = [
                PhraseBias(model.pieces, phrases, (), how["boost"]) if phrases else None
                for phrases, how in zip(lists, given["variants"], strict=True)
            ]
            without, with_nothing, *found = hypotheses(model, case, [None, nothing, *biases], given["beam"])
            empty.append(without == with_nothing)
            for how, best in zip(given["variants"], found, strict=True):
                texts[how["label"]].append(text_of(best, model.pieces))
    return _written(job, one.cases, missing, texts=texts, empty=empty)


def hear_lattices(job: Job) -> list[Path]:
    """Lattices with fusion in the search and after it: the texts of best path and oracle; and some words by torch."""
    torch.set_num_threads(1)
    given = job.given
    one, missing = _set(given)
    trained = trained_of(SHIPPED)
    by_torch = torch_arm(trained, given["boost"], SearchSettings(beam=given["beam_of_torch"]))
    texts: dict[str, list[str]] = {}
    left: list[list[int]] = []
    cases = one.cases[: given["most"]]
    for number, case in enumerate(map(replace, cases)):
        phrases = one.phrases(case, given["list"])
        found = lattices_of(trained, case, phrases, dict(given), given["boost"])
        for name in ("plain", "behind", "inside"):
            best, least = lattice_texts(getattr(found, name), case.words)
            texts.setdefault(f"{name} best", []).append(best)
            texts.setdefault(f"{name} oracle", []).append(least)
        long = one.phrases(case, given["long"])
        some = set(shortened(trained, case, long, given["shortlist"]))
        left.append([sum(phrase in some for phrase in case.right), len(case.right)])
        if number < given["torch"]:
            texts.setdefault("torch", []).append(by_torch(case, phrases))
    return _written(job, cases, missing, texts=texts, left=left)


def _written(job: Job, cases: Sequence[Case], missing: Mapping[str, str], **found: Any) -> list[Path]:
    content = {"cases": [_id(case) for case in cases], "missing": missing, **found}
    path = job.folder / FILE
    write_atomic(path, json.dumps(content, ensure_ascii=False) + "\n")
    return [path]


def _id(case: Case) -> str:
    return f"{case.spoken.corpus} {case.spoken.id}"


@dataclass(frozen=True)
class HeardSet:
    """A set with what a step made of it.

    Attributes:
        whole: the set, with the cases that were heard.
        normaliser: of its transcripts.
        found: the step's file.
    """

    whole: Set
    normaliser: str
    found: Mapping[str, Any]

    @property
    def texts(self) -> Mapping[str, list[str]]:
        """By variant."""
        texts: Mapping[str, list[str]] = self.found["texts"]
        return texts

    @property
    def missing(self) -> Mapping[str, str]:
        """Why some of its corpora are not available, by their names."""
        missing: Mapping[str, str] = self.found["missing"]
        return missing

    def counted(self, label: str, count: int, kind: str = "full") -> Counted:
        """The errors of a variant, divided by the words of lists of this length and kind."""
        texts = self.texts[label]
        one = replace(self.whole, cases=self.whole.cases[: len(texts)])
        lists = [one.phrases(case, count, kind) for case in one.cases]
        normalise = normalisers()[self.normaliser]
        return count_texts(one, normalise, lists, [normalise(text) for text in texts])


def heard(step: Step) -> HeardSet:
    """What a step heard, which is done now unless the pipeline has done it.

    Raises:
        EdgeSpeechError: its speech is not available, or its model is not on this machine.
    """
    outcome = make(step)
    if outcome.skipped is not None:
        raise EdgeSpeechError(outcome.skipped)
    given = step.given
    found = json.loads((folder_of(step) / FILE).read_text(encoding="utf-8"))
    one, _ = set_of(given["set"], dict(given["how"]), seed=given["seed"], count=given["utterances"])
    by_id = {_id(case): case for case in one.cases}
    cases = tuple(by_id[name] for name in found["cases"])
    return HeardSet(replace(one, cases=cases), given["how"]["normaliser"], found)


def all_steps(config: Config) -> Iterable[Step]:
    """All steps of the models that are no arms."""
    yield from (hear_step(config, name) for name in config["sets"])
    yield from (lattice_step(config, name) for name in config["lattice_sets"])
