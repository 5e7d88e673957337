"""Making a synthetic corpus as a step of the pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

from edgespeech.core.extras import need
from edgespeech.core.files import visible
from edgespeech.core.places import manifests_dir, work_dir
from edgespeech.corpora.step import fetch_step, is_corpus
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job, make
from edgespeech.synthesis.recipe import load_recipe

RULE = "synthesise"
CORPORA = "corpora/assistant"
"""Where synthetic corpora are, in the work folder: a configuration names one `corpora/assistant/NAME.jsonl`."""
RECIPES = ("assistant", "languages")
"""Recipes of these corpora: folders beside the descriptions of corpora."""
PROCESSES = 2
"""Worker processes that say one corpus."""


def speech_steps(names: Iterable[str]) -> tuple[Step, ...]:
    """The steps that get the speech that a configuration names: synthetic corpora are made, others fetched.

    Args:
        names: splits, corpora, `corpora/assistant/NAME.jsonl`, or manifests of somebody's own, which are there.

    Raises:
        EdgeSpeechError: no recipe has that name, or there is no such corpus.
    """
    steps = []
    for name in dict.fromkeys(names):
        if name.startswith(f"{CORPORA}/"):
            steps.append(corpus_step(Path(name).stem))
        elif is_corpus(name) or not name.endswith((".jsonl", ".json", ".gz")):
            steps.append(fetch_step(name))
    return tuple(steps)


def corpus_step(name: str) -> Step:
    """The step that makes a synthetic corpus.

    Raises:
        EdgeSpeechError: no recipe has that name, or a recipe is wrong.
    """
    recipes = _recipes()
    if name not in recipes:
        raise bad("data_manifests", "recipe", name, "one of " + ", ".join(recipes))
    recipe = load_recipe(recipes[name])
    written = [one for one in (*recipe.texts, *recipe.held_out) if is_corpus(one)]
    return Step(
        rule=RULE,
        name=name,
        function=f"{__name__}:make_corpus",
        given={"recipe": name},
        needs=tuple(fetch_step(one) for one in dict.fromkeys(written)),
        inputs=(recipes[name], *(manifests_dir() / "grammars" / f"{one}.yaml" for one in recipe.grammars)),
        code=("edgespeech.synthesis.synthesis",),
        without=("core", "records", "corpora"),
        resources=Resources(processes=PROCESSES),
    )


def make_corpus(job: Job) -> list[Path]:
    """Say the sentences that were not said yet, and write the corpus."""
    need("kokoro_onnx", "synth")
    from edgespeech.synthesis.kokoro import Kokoro
    from edgespeech.synthesis.synthesis import synthesise

    recipe = _recipes()[job.given["recipe"]]
    out = work_dir() / CORPORA
    return [synthesise(recipe, partial(Kokoro, None), jobs=job.resources.processes, out=out)]


def make_corpora(names: Iterable[str]) -> None:
    """Make synthetic corpora in this process, unless they are made.

    Args:
        names: as for `speech_steps`; what is not synthetic is left to be fetched where it is read.

    Raises:
        EdgeSpeechError: no recipe has that name, or it cannot be made.
    """
    for step in speech_steps(names):
        if step.rule == RULE and (reason := make(step).skipped) is not None:
            raise EdgeSpeechError(f"speech of {step.name}: {reason}")


@cache
def _recipes() -> dict[str, Path]:
    """Every recipe's file, by the corpus's name."""
    paths = [path for folder in RECIPES for path in visible(manifests_dir() / folder, "*.yaml")]
    return {load_recipe(path).name: path for path in paths}
