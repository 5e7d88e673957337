"""The plan: the rows of a table, read from YAML and expanded into runs.

What decides whether a run has to be made is in `edgespeech.pipeline.rows`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgespeech.core.places import checkout
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.records.records import Condition
from edgespeech.records.schema import Band

Profile = Literal["quick", "full"]
_SOURCE = {".py", ".cpp", ".cc", ".c", ".hpp", ".h", ".yaml"}
_NOT_MEASURING = {"report", "pipeline", "steps", "cli"}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NoisePlan(_Strict):
    """Noise to mix in: a name of the `noise` corpus, the rule that defines the ratio, the ratios in dB."""

    name: str
    rule: Literal["mean", "peak-frame"]
    snr_db: list[float] = Field(min_length=1)


class RowPlan(_Strict):
    """Rows of one kind: every named system on every named corpus, clean or at each ratio, perhaps in one band."""

    corpora: list[str] = Field(min_length=1)
    systems: Literal["all"] | list[str]
    noise: NoisePlan | None = None
    band: Band | None = None
    context: str | None = None
    stream: str | None = None
    subset: dict[Profile, int] = {}
    profiles: list[Profile] = ["quick", "full"]


class Plan(_Strict):
    """A plan file."""

    seed: int = Field(ge=0)
    threads: int = Field(ge=1, le=64)
    cloud_speedup: float = Field(gt=0)
    networks: list[str] = Field(min_length=1)
    exclude: list[str] = []
    rows: list[RowPlan] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run of the plan: a recogniser on a corpus under a condition.

    `context` names a phrase list of `data_manifests/contexts/`, or is `manifest` for each utterance's own.
    `subset` is the number of utterances, None for all. `band` is the frequency band of the channel, None: unlimited.
    `stream` names what surrounds each utterance (`data_manifests/streams`), or is `manifest` for the lead-ins of its
    own lines; None: utterances alone.
    """

    system: str
    corpus: str
    noise: str | None
    snr_db: float | None
    snr_rule: str | None
    context: str | None
    subset: int | None
    band: Band | None = None
    stream: str | None = None

    @property
    def condition(self) -> Condition:
        """The condition for the record."""
        return Condition(
            noise=self.noise,
            snr_db=self.snr_db,
            snr_rule=self.snr_rule,
            band=self.band,
            context=self.context is not None,
            stream=self.stream,
        )


def load_plan(path: Path) -> Plan:
    """Read and validate a plan.

    Raises:
        EdgeSpeechError: not readable, not YAML, an unknown key, a wrong type or a value out of range.
    """
    try:
        content = load_yaml(path)
    except OSError as error:
        raise EdgeSpeechError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "plan"
        raise bad(str(path), field, first["input"], first["msg"]) from error


def expand(plan: Plan, profile: Profile, systems: Sequence[str]) -> list[Run]:
    """Every run of a profile, in the plan's order, none twice.

    Args:
        plan: the plan.
        profile: quick or full.
        systems: all recognisers, to which `all` expands, minus the plan's exclusions.

    Raises:
        EdgeSpeechError: the plan names a system that does not exist.
    """
    runs: dict[Run, None] = {}
    for row in plan.rows:
        if profile not in row.profiles:
            continue
        if row.systems == "all":
            names = [name for name in systems if name not in plan.exclude]
        else:
            names = list(row.systems)
            for name in names:
                if name not in systems:
                    raise bad("plan", "systems", name, "one of " + ", ".join(systems))
        ratios: list[float | None] = [None] if row.noise is None else list(row.noise.snr_db)
        for corpus in row.corpora:
            for snr_db in ratios:
                for name in names:
                    run = Run(
                        system=name,
                        corpus=corpus,
                        noise=row.noise.name if row.noise else None,
                        snr_db=snr_db,
                        snr_rule=row.noise.rule if row.noise else None,
                        context=row.context,
                        subset=row.subset.get(profile),
                        band=row.band,
                        stream=row.stream,
                    )
                    runs[run] = None
    return list(runs)


def left_out(plan: Plan, profile: Profile, systems: Sequence[str]) -> str:
    """One line about the parts of a plan that a profile leaves out; empty if it runs all of it.

    Args:
        plan: the plan.
        profile: quick or full.
        systems: all recognisers.
    """
    runs, every = expand(plan, profile, systems), expand(plan, "full", systems)
    whole = {replace(run, subset=None) for run in runs}
    left = [run for run in every if replace(run, subset=None) not in whole]
    subsets = [run.subset for run in runs if run.subset is not None]
    if profile == "full" or not (left or subsets):
        return ""
    parts = [f"at most {max(subsets)} utterances of a corpus"] if subsets else []
    kinds = Counter("noise" if run.noise else f"{run.band} band" if run.band else run.corpus for run in left)
    parts += [f"without {n} rows of {name}" for name, n in kinds.items()]
    return f"Profile {profile}: {', '.join(parts)}. PROFILE=full runs all of the plan."


@lru_cache(maxsize=1)
def measuring_code_sha256() -> str:
    """Hash of the source that determines the results of a run: everything but the report and the command line."""
    package, root = Path(__file__).parent.parent, checkout()
    return source_sha256(package, build=package / "none" if root is None else root / "CMakeLists.txt")


def source_sha256(package: Path, build: Path) -> str:
    """Hash of a package's Python, C++ and YAML, and of the build file of the C++.

    Args:
        package: its folder; the report and the command line in it do not count.
        build: the `CMakeLists.txt`, which an installed package does not have.
    """
    files = [
        path
        for path in sorted(package.rglob("*"))
        if path.suffix in _SOURCE and path.relative_to(package).parts[0] not in _NOT_MEASURING
    ]
    digest = hashlib.sha256()
    for path in [*files, *([build] if build.is_file() else [])]:
        name = path.relative_to(package).as_posix() if path != build else build.name
        digest.update(f"{name}\n{path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
