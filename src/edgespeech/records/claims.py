"""Claims, their measurements, and verdicts from intervals.

A claim's kind is `paper` (reported in a paper, which `source` cites), `target` (a bar of this project) or `observation`
(a figure without a bar). A verdict never depends on a point estimate: with the whole 95 % interval inside the bar a
claim is reproduced (a target met), with the whole interval outside it is not reproduced (missed), else it is undecided.
A claim whose true value is exactly at its bar is therefore called reproduced in about 2.5 % of all measurements.

Non-inferiority is a bar with a margin that was stated before measuring: `{direction: at_most, value: 0, margin: 0.005}`
on a difference of word error rates holds once the upper end of its interval is at most half a point.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, ValidationError, model_validator

from edgespeech.contracts import Verdict
from edgespeech.core.config import explain
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.records.schema import Count, Number, Strict

Unit = Literal[
    "share", "points", "relative", "ratio", "s", "ms", "bytes", "MB", "parameters", "hours", "nats",
    "audio s / s", "per minute", "per hour", "steps",
]  # fmt: skip
"""`share`, `points` (a difference of two shares) and `relative` (a difference over what it is from) are fractions."""


class Kind(StrEnum):
    """The kind of a claim."""

    PAPER = "paper"
    TARGET = "target"
    OBSERVATION = "observation"


class Bar(Strict):
    """The range in which the true value must be.

    Attributes:
        direction: of the bar; `below` and `above` exclude the value itself.
        value: a number; for `between` the two ends, both of which are inside.
        margin: by how much the bar may be missed, stated before measuring (non-inferiority; for `equal` either way).
    """

    direction: Literal["at_most", "below", "at_least", "above", "equal", "between"]
    value: float | tuple[float, float]
    margin: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if isinstance(self.value, tuple) != (self.direction == "between"):
            raise ValueError("between has two values, every other direction one")
        if isinstance(self.value, tuple) and (self.value[0] >= self.value[1] or self.margin):
            raise ValueError("between has its lower value first, and no margin")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value within the bar, including the margin."""
        if isinstance(self.value, tuple):
            return self.value
        if self.direction == "equal":
            return self.value - self.margin, self.value + self.margin
        if self.direction in ("at_most", "below"):
            return -math.inf, self.value + self.margin
        return self.value - self.margin, math.inf

    def holds(self, low: float, high: float) -> bool | None:
        """Whether a range of values is within the bar: entirely (True), not at all (False), or in part (None)."""
        least, most = self.ends
        if self.direction in ("below", "above"):
            inside = least < low and high < most
            outside = high <= least or most <= low
        else:
            inside = least <= low and high <= most
            outside = high < least or most < low
        return True if inside else False if outside else None


class Claim(Strict):
    """A reported result or a target, to be compared with measurements.

    Attributes:
        id: `TECHNIQUE.name`.
        short: the claim in a few words, for lists.
        text: the claim in one sentence of our own.
        kind: see `Kind`.
        source: paper and section for a `paper` claim, else `own bar` and its motivation.
        reported: the reported figure, in `reported_unit` (or in `unit` if that is empty); None: none is reported.
        unit: of the bar and of the measurement.
        bar: the range of the value; None for an observation.
        seeds: number of training runs required for a verdict; above 1 the interval must resample them too.
        exact: counted, not sampled (bytes, parameters, all cases of a list): a verdict needs no interval.
    """

    id: str = Field(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$")
    short: str = Field(min_length=1, max_length=60)
    text: str = Field(min_length=1)
    kind: Kind
    source: str = Field(default="own bar", min_length=1)
    reported: float | None = None
    reported_unit: Unit | None = None
    unit: Unit
    bar: Bar | None = None
    seeds: int = Field(default=1, ge=1)
    exact: bool = False

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if (self.bar is None) != (self.kind is Kind.OBSERVATION):
            raise ValueError("a paper claim and a target have a bar, an observation has none")
        if (self.kind is Kind.PAPER) == self.source.startswith("own bar"):
            raise ValueError("a paper claim names its source; what is not reported is `own bar`")
        if self.kind is not Kind.PAPER and self.reported is not None:
            raise ValueError("only a paper claim has a reported figure")
        if self.reported_unit is not None and self.reported is None:
            raise ValueError("reported_unit without a reported figure")
        if self.exact and self.seeds > 1:
            raise ValueError("what is exact needs no seeds")
        if self.bar is not None and self.bar.direction == "equal" and not (self.exact or self.bar.margin):
            raise ValueError("no interval equals one value: exact, or a margin")
        return self


class Measured(Strict):
    """One measured value of a claim, or the reason why there is none.

    Attributes:
        condition: of the measurement, as in the table.
        value: in the claim's unit.
        low: lower end of its 95 % interval, `high` the upper one; None if there is no interval.
        n: utterances, chunks or cases.
        seeds: number of training runs.
        resampled: the units that the interval resamples: `utterances`, `speakers`, `seeds`, `simulations`; empty: not
            recorded.
        not_run: why it was not measured.
    """

    condition: str = ""
    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    n: Count = 0
    seeds: int = Field(default=1, ge=1)
    resampled: tuple[str, ...] = ()
    not_run: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.value is None) == (self.not_run is None):
            raise ValueError("a value, or why it was not run")
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high come together")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Judgement(NamedTuple):
    """A verdict with its reason, which is empty if the interval (or the exact value) decides."""

    verdict: Verdict | None
    reason: str = ""


def judge(claim: Claim, measured: Measured) -> Judgement:
    """The verdict on a claim from a measurement; None for a measured observation."""
    if measured.not_run is not None:
        return Judgement(Verdict.NOT_RUN, measured.not_run)
    if claim.bar is None:
        return Judgement(None)
    assert measured.value is not None
    if claim.exact:
        return _decided(claim, claim.bar.holds(measured.value, measured.value))
    if measured.seeds < claim.seeds:
        return Judgement(Verdict.UNDECIDED, f"{measured.seeds} of {claim.seeds} seeds")
    if measured.low is None or measured.high is None:
        return Judgement(Verdict.UNDECIDED, "no interval in the record")
    if claim.seeds > 1 and "seeds" not in measured.resampled:
        return Judgement(Verdict.UNDECIDED, "the interval does not resample seeds")
    return _decided(claim, claim.bar.holds(measured.low, measured.high))


def _decided(claim: Claim, holds: bool | None) -> Judgement:
    if holds is None:
        return Judgement(Verdict.UNDECIDED)
    if claim.kind is Kind.PAPER:
        return Judgement(Verdict.REPRODUCED if holds else Verdict.NOT_REPRODUCED)
    return Judgement(Verdict.MET if holds else Verdict.MISSED)


class Claims:
    """The claims of a technique in the order of its file, found by their ids.

    Args:
        claims: with distinct ids.
        where: the file, for messages.

    Raises:
        EdgeSpeechError: an id occurs twice.
    """

    def __init__(self, claims: Iterable[Claim], where: str) -> None:
        self.where = where
        self._claims: dict[str, Claim] = {}
        for claim in claims:
            if claim.id in self._claims:
                raise bad(where, "id", claim.id, "each claim once")
            self._claims[claim.id] = claim

    def __getitem__(self, name: str) -> Claim:
        """The claim with an id.

        Raises:
            EdgeSpeechError: there is no such claim.
        """
        if name not in self._claims:
            raise bad(self.where, "claim", name, "one of " + ", ".join(self._claims))
        return self._claims[name]

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._claims.values())

    def __len__(self) -> int:
        return len(self._claims)

    def check_names(self, where: str, content: Any) -> None:
        """Check all claim ids under a key `claim` at any depth of a configuration.

        Raises:
            EdgeSpeechError: one of them is not a claim of this technique.
        """
        if isinstance(content, Mapping):
            if (name := content.get("claim")) is not None and name not in self._claims:
                raise bad(where, "claim", name, "one of " + ", ".join(self._claims))
            for value in content.values():
                self.check_names(where, value)
        elif isinstance(content, list | tuple):
            for value in content:
                self.check_names(where, value)


def load_claims(path: Path) -> Claims:
    """Read a technique's `claim.yaml`; its folder has the technique's name.

    Raises:
        EdgeSpeechError: not readable, not YAML, an unknown key, a value out of range, an id twice or of another
            technique.
    """
    where, technique = f"{path.parent.name}/{path.name}", path.parent.name
    try:
        content = load_yaml(path, name=where)
    except OSError as error:
        raise EdgeSpeechError(f"{where}: cannot be read: {error.strerror}") from error
    if not isinstance(content, list):
        raise bad(where, "claims", content, "a list of claims")
    found = []
    for number, entry in enumerate(content, 1):
        name = entry.get("id", f"claim {number}") if isinstance(entry, dict) else f"claim {number}"
        try:
            claim = Claim.model_validate(entry)
        except ValidationError as error:
            raise explain(f"{where}: {name}", error, tuple(Claim.model_fields)) from error
        if not claim.id.startswith(f"{technique}."):
            raise bad(where, "id", claim.id, f"one that begins with {technique}.")
        found.append(claim)
    return Claims(found, where)
