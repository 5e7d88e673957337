"""Four successive releases, each trained in full and as deltas under a budget, all with the same steps.

The arms of a release begin where those of the same kind and budget ended at the release before, so that deltas add up
as on a device; what is sent is the change of training, added to the packed model that the device has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from replication.updates.models import START, packed

from edgespeech.arms.configuration import Arm, Arms, start_model
from edgespeech.arms.packed_bench import Bench, say
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import bad
from edgespeech.harness.checks import Row
from edgespeech.metrics.statistics import bootstrap_ratio
from edgespeech.metrics.word_errors import POOLED
from edgespeech.updates.make import make_within
from edgespeech.updates.update_file import Kind, apply_update

HERE = Path(__file__).parent
FULL = "full"
SMALLEST = 0.02
"""The budget of the paper's claim: 98 % fewer bytes."""


def families(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The families of all releases: `RELEASE_full`, and `RELEASE_KIND_PERCENT`."""
    asked = config["trained"]
    kinds: list[tuple[str, dict[str, Any] | None]] = [(FULL, None)]
    kinds += [
        (way_of(kind, budget), {"name": f"delta_{kind}", "budget": budget, "bits": asked["bits"]})
        for kind, budget in ways(config)
    ]
    found = []
    for name, compressor in kinds:
        before: str | None = None
        for release in asked["releases"]:
            own = {key: value for key, value in release.items() if key in ("speech", "augment", "noises")}
            family: dict[str, Any] = {
                "name": f"{release['name']}_{name}",
                "pack": {"bits": asked["bits"]},
                "train": own,
                "seeds": seeds_of(config, name),
            }
            if compressor is not None:
                family["compressor"] = compressor
            if before is not None:
                family["init_of"] = before
            found.append(family)
            before = family["name"]
    return found


def ways(config: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The kinds of deltas with their budgets."""
    for kind, budgets in config["trained"]["ways"].items():
        yield from ((kind, budget) for budget in budgets)


def way_of(kind: str, budget: float) -> str:
    """The name of a kind of delta with its budget, such as `low_rank_2`."""
    return f"{kind}_{round(100 * budget)}"


def seeds_of(config: Mapping[str, Any], way: str) -> list[int]:
    """The seeds of a way: all of them for what the claims are about, else the first.

    Raises:
        EdgeSpeechError: the headline names a way that there is not.
    """
    asked = config["trained"]
    known = [FULL, *(way_of(kind, budget) for kind, budget in ways(config))]
    for name in asked["headline"]:
        if name not in known:
            raise bad("updates/config.yaml", "headline", name, "some of " + ", ".join(known))
    seeds: list[int] = asked["seeds"]
    return seeds if way in asked["headline"] else seeds[:1]


def the_arms() -> Arms:
    """All arms of all releases."""
    config = load_yaml(HERE / "config.yaml")
    return Arms(HERE, {**config["trained"], "families": families(config)}, start_model())


def trained(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The claims about trained deltas; rows of what is not trained say so."""
    arms = the_arms()
    releases = config["trained"]["releases"]
    left = [arm for arm in arms.arms.values() if not arms.has_model(arm)]
    steps = sum(arm.config.steps for arm in left if arm.config is not None)
    reason = f"not trained on this machine: {len(left)} of {len(arms.arms)} runs, {steps} steps"
    with TemporaryDirectory() as scratch:
        devices = Devices(config, arms, Path(scratch), seed)
        for kind, budget in ways(config):
            way = way_of(kind, budget)
            for place in range(len(releases)):
                missing = devices.missing(way, place) or devices.missing(FULL, place)
                for row in devices.claims(way, budget, place, measure=not missing):
                    yield {**row, "skipped": f"{reason}, {missing} among them"} if missing else row
    reason = "no model of the update's bytes is trained"
    yield {"claim": "updates.small_model", "detail": f"{100 * SMALLEST:g} %", "skipped": reason}


class Devices:
    """Devices that got every release by one way, such as `full` or `low_rank_2`, and their word errors.

    Args:
        config: of the page.
        arms: of the releases.
        folder: for files.
        seed: of intervals.
    """

    def __init__(self, config: Mapping[str, Any], arms: Arms, folder: Path, seed: int) -> None:
        self._config, self._arms, self._folder, self._seed = config, arms, folder, seed
        self._asked = config["trained"]
        self._files: dict[tuple[str, int, int], Path] = {}
        self._benches: dict[tuple[str, ...], Bench] = {}

    def missing(self, way: str, place: int) -> str | None:
        """The first arm without a model, of a way up to a release."""
        for release in self._asked["releases"][: place + 1]:
            some = self._runs(f"{release['name']}_{way}")
            for arm in some:
                if not self._arms.has_model(arm):
                    return arm.name
        return None

    def claims(self, way: str, budget: float, place: int, *, measure: bool) -> Iterator[Row]:
        """What is claimed of a way at a release; without measuring only claims and conditions."""
        releases = self._asked["releases"]
        detail = f"{releases[place]['name']}, {way.rpartition('_')[0]} at {100 * budget:g} %"
        own, earlier = releases[place]["judged"], [c for one in releases[:place] for c in one["judged"]]
        for claim, wanted in (("updates.gain_2", 0.02), ("updates.gain_5", 0.05)):
            if budget == wanted:
                yield {"claim": claim, "detail": detail} | (self._gain(way, place, own) if measure else {})
        if budget == SMALLEST:
            row: Row = {"claim": "updates.bytes", "detail": detail}
            yield row | (self._difference(own, (way, place), (FULL, place)) if measure else {})
        for corpus in earlier:
            row = {"claim": "updates.forgetting", "detail": f"{detail}, {corpus}"}
            yield row | (self._difference([corpus], (way, place), (way, place - 1)) if measure else {})
        if place == len(releases) - 1:
            row = {"claim": "updates.succession", "detail": detail}
            yield row | (self._difference([*earlier, *own], (way, place), (FULL, place)) if measure else {})

    def _difference(self, corpora: Sequence[str], ours: tuple[str, int], theirs: tuple[str, int]) -> Row:
        bench, seeds = self._bench(corpora), seeds_of(self._config, ours[0])
        mine, other = (self._errors(bench, *side, seeds) for side in (ours, theirs))
        return bench.compare(mine, other, POOLED).as_row()

    def _gain(self, way: str, place: int, corpora: Sequence[str]) -> Row:
        """The share of the full update's gain over the device before it; both go on from the full update before."""
        bench, seeds = self._bench(corpora), seeds_of(self._config, way)
        before, delta, full = (
            [sum(column) / len(some) for column in zip(*some, strict=True)]
            for some in (
                self._errors(bench, FULL, place - 1, seeds),
                self._errors(bench, way, place, seeds),
                self._errors(bench, FULL, place, seeds),
            )
        )
        gains = [[b - e for b, e in zip(before, some, strict=True)] for some in (delta, full)]
        if sum(gains[1]) <= 0:
            return {"skipped": "the full update has no gain on these sets"}
        groups = [item.speaker for item in bench.utterances]
        interval = bootstrap_ratio(gains[0], gains[1], groups, seed=self._seed).as_row()
        return {
            "measured": sum(gains[0]) / sum(gains[1]),
            **interval,
            "n": len(groups),
            "seeds": len(seeds),
        }

    def _runs(self, name: str) -> list[Arm]:
        return [arm for arm in self._arms.arms.values() if arm.first == name]

    def _bench(self, corpora: Sequence[str]) -> Bench:
        key = tuple(corpora)
        if key not in self._benches:
            folder = self._folder / "_".join(key)
            folder.mkdir()
            self._benches[key] = Bench(dict.fromkeys(key, "basic"), folder, self._seed)
        return self._benches[key]

    def _errors(self, bench: Bench, way: str, place: int, seeds: Sequence[int]) -> list[list[int]]:
        beam = self._config["beam"]
        return [bench.errors(say(self._file(way, place, seed), bench, beam)[0]) for seed in seeds]

    def _file(self, way: str, place: int, seed: int) -> Path:
        """The packed model of a device after a release; -1: the one that it was sold with."""
        if place < 0:
            way, seed = FULL, 0
        if (way, place, seed) not in self._files:
            self._files[way, place, seed] = self._made(way, place, seed)
        return self._files[way, place, seed]

    def _made(self, way: str, place: int, seed: int) -> Path:
        out = self._folder / f"{way}-{place}-{seed}.edge"
        if place < 0:
            return packed({"model": START, "pack": {"bits": self._asked["bits"]}}, out)
        arm = self._arm(way, place, seed)
        assert arm.config is not None
        if arm.config.compressor is None:
            asked = {"model": str(self._arms.model_folder(arm)), "pack": {"bits": self._asked["bits"]}}
            return packed(asked, out)
        old, update = self._file(way, place - 1, seed), out.with_suffix(".update")
        start = self._arms.model_folder(self._arm(way, place - 1, seed)) if place else self._arms.init
        kind = Kind[arm.config.compressor["name"].removeprefix("delta_").upper()]
        budget = int(arm.config.compressor["budget"] * old.stat().st_size)
        make_within(old, self._arms.model_folder(arm), update, kind, budget, start=start)
        apply_update(old, update, out)
        return out

    def _arm(self, way: str, place: int, seed: int) -> Arm:
        some = self._runs(f"{self._asked['releases'][place]['name']}_{way}")
        return next(arm for arm in some if arm.seed == seed)
