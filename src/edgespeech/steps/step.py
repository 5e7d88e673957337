"""A step of the pipeline: one function call whose outputs are named by a hash of all that decides them.

A step's key is a hash of its function and arguments, the content of the files that it reads, the code that matters and
the keys of the steps that it needs. The same key means the same outputs, so a step whose outputs are there
(`edgespeech.steps.store`) is not run again, and a change re-makes what hangs on it and nothing else. What a step may
use of a machine (`Resources`) decides how fast it is, not what it makes, and is not part of the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgespeech.core.files import sha256_file
from edgespeech.core.places import checkout
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.records.code import measuring_files, sha256_of
from edgespeech.records.records import sha256_json

PACKAGE = Path(__file__).parents[1]
_RULE = re.compile(r"[a-z][a-z0-9_]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What a step uses of one machine.

    Attributes:
        processes: that work side by side; a training step starts so many under torchrun.
        threads: of each process.
        gpus: that it needs; with any, a training step starts one process on each.
        memory_mb: of main memory; None leaves it to the executor's default.
        minutes: that it may take; None leaves it to the executor's default.
        alone: nothing else runs beside it on its machine, because it takes times.
    """

    processes: int = 1
    threads: int = 1
    gpus: int = 0
    memory_mb: int | None = None
    minutes: int | None = None
    alone: bool = False

    def __post_init__(self) -> None:
        for name, least in (("processes", 1), ("threads", 1), ("gpus", 0), ("memory_mb", 1), ("minutes", 1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise bad("resources", name, value, f"a whole number of at least {least}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any] | None, where: str) -> Resources:
        """Resources as a configuration has them.

        Args:
            values: by the names of the attributes; None for the defaults.
            where: the file and field, for messages.

        Raises:
            EdgeSpeechError: an unknown name or a wrong value.
        """
        known = set(cls.__slots__)
        if values is not None and not isinstance(values, Mapping):
            raise bad(where, "resources", values, "a mapping of " + ", ".join(sorted(known)))
        for name in values or {}:
            if name not in known:
                raise bad(where, "resources", name, "one of " + ", ".join(sorted(known)))
        try:
            return cls(**(values or {}))
        except EdgeSpeechError as error:
            raise EdgeSpeechError(f"{where}: {error}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """A step before it is planned.

    Attributes:
        rule: what kind of step it is, such as `train`; all steps of a kind are one rule of the pipeline.
        name: for people; with the rule it is unique within a pipeline.
        function: `module:function` of a function that takes a `Job` and returns the files that it made.
        given: the function's arguments, as JSON has them and without paths of this machine.
        needs: steps that have to be made before.
        inputs: files of the checkout or elsewhere that it reads.
        code: modules whose code counts, with all that they import; none if what it makes is checked by a hash anyway.
        without: rooms of the package that decide nothing of this step, though it imports them.
        resources: what it uses of a machine.
        anyway: it also runs where something that it needs is not to be had.
        notes: it then only writes that down, which the step that could not be made does for it, in its own process.
        here: it runs on the machine that plans, which has the network and writes to the checkout.
    """

    rule: str
    name: str
    function: str
    given: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[Step, ...] = ()
    inputs: tuple[Path, ...] = ()
    code: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    resources: Resources = Resources()
    anyway: bool = False
    notes: bool = False
    here: bool = False

    def __post_init__(self) -> None:
        if not _RULE.fullmatch(self.rule):
            raise bad(f"step {self.name}", "rule", self.rule, "lower-case letters, digits and underscores")
        if self.function.count(":") != 1:
            raise bad(f"step {self.name}", "function", self.function, "module:function")

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits of all that decides what it makes.

        Raises:
            EdgeSpeechError: an input or a module is not there.
        """
        return sha256_json(
            {
                "rule": self.rule,
                "function": self.function,
                "given": dict(self.given),
                "needs": sorted({need.key for need in self.needs}),
                "inputs": {_portable(path): _content(path) for path in self.inputs},
                "code": code_sha256(self.code, self.without),
            }
        )[:16]

    @cached_property
    def id(self) -> str:
        """`RULE/NAME-KEY`: the name of its folder and its files."""
        return f"{self.rule}/{_UNSAFE.sub('.', self.name)}-{self.key}"

    def task(self) -> Task:
        """The step as it is planned."""
        return Task(
            id=self.id,
            rule=self.rule,
            name=self.name,
            function=self.function,
            given=dict(self.given),
            needs={f"{need.rule}/{need.name}": need.id for need in self.needs},
            resources=self.resources,
            anyway=self.anyway,
            notes=self.notes,
            here=self.here,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A planned step: its hashes are taken, and a machine without the planner's view can run it.

    Attributes:
        id: `RULE/NAME-KEY`.
        rule: see `Step`.
        name: see `Step`.
        function: see `Step`.
        given: see `Step`.
        needs: the ids of what it needs, by `RULE/NAME`.
        resources: see `Step`.
        anyway: see `Step`.
        notes: see `Step`.
        here: see `Step`.
    """

    id: str
    rule: str
    name: str
    function: str
    given: Mapping[str, Any]
    needs: Mapping[str, str]
    resources: Resources
    anyway: bool
    notes: bool
    here: bool

    def to_json(self) -> dict[str, Any]:
        """As the description of a pipeline has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Task:
        """The reverse of `to_json`."""
        return cls(**{**values, "resources": Resources(**values["resources"])})


def everything(targets: Iterable[Step]) -> list[Step]:
    """Steps with all that they need, what is needed first, none twice.

    Raises:
        EdgeSpeechError: two different steps have the same rule and name.
    """
    found: dict[str, Step] = {}
    named: dict[tuple[str, str], Step] = {}

    def visit(step: Step) -> None:
        if step.id in found:
            return
        for need in step.needs:
            visit(need)
        other = named.setdefault((step.rule, step.name), step)
        if other.id != step.id:
            raise bad("pipeline", step.rule, step.name, "a name that no other step of this kind has")
        found[step.id] = step

    for target in targets:
        visit(target)
    return list(found.values())


@lru_cache(maxsize=1024)
def code_sha256(modules: tuple[str, ...], without: tuple[str, ...] = ()) -> str:
    """Hash of some modules' code and of all that they import of this package.

    Args:
        modules: by their dotted names.
        without: rooms of the package to leave out.

    Raises:
        EdgeSpeechError: there is no such module.
    """
    if not modules:
        return ""
    root = checkout()
    build = None if root is None else root / "CMakeLists.txt"
    return sha256_of(measuring_files([_file_of(name) for name in modules], PACKAGE, build, without=without))


def _file_of(module: str) -> Path:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise bad("step", "code", module, "a module that can be imported")
    return Path(spec.origin)


def _portable(path: Path) -> str:
    """A path as a key has it: the same wherever the checkout is."""
    root = checkout()
    if root is not None and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.name


def _content(path: Path) -> str | None:
    """The hash of a file; None where there is none, which is an input too."""
    if not path.is_file():
        return None
    status = path.stat()
    return _hashed(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _hashed(path: Path, size: int, mtime_ns: int) -> str:
    del size, mtime_ns
    return sha256_file(path)
