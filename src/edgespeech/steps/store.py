"""What steps have made: the one place that says what is finished.

In the pipeline's folder (`.work/pipeline`, or what `EDGESPEECH_PIPELINE` names):

- `made/RULE/NAME-KEY/` is a step's own folder. What it writes there survives an interruption, so a step may go on from
  a checkpoint of its own; whether it is finished is not for the step to say.
- `made/RULE/NAME-KEY.json` is its `Outcome`, written when it is finished. It holds the hashes of the files that were
  made, wherever they are; a file that is gone or another one by now makes the step unfinished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.locks import locked
from edgespeech.core.places import checkout, work_dir
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.steps.step import Resources, Step, Task

VARIABLE = "EDGESPEECH_PIPELINE"
"""Environment variable that names the pipeline's folder."""
MADE = "made"


class SkippedError(EdgeSpeechError):
    """A step cannot be made here for want of data, weights or a package; nothing is wrong with what was given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a step.

    Attributes:
        skipped: why it could not be made here; None: it is made.
        files: `[sha256, bytes, mtime_ns]` of every file that it made, by its name: `own/...` in its folder, `work/...`
            in the work folder, `checkout/...` in the checkout, `at/...` elsewhere.
        about: what else its function has to say, as JSON has it.
    """

    skipped: str | None = None
    files: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What a step's function gets.

    Attributes:
        name: the step's.
        given: its arguments.
        folder: its own, which exists, with what an interrupted run has left there.
        resources: what it may use.
        outcomes: of the steps that it needs, by `RULE/NAME`.
        folders: the own folders of these steps.
        concurrent: steps that may run at once, this one among them.
    """

    name: str
    given: Mapping[str, Any]
    folder: Path
    resources: Resources
    outcomes: Mapping[str, Outcome]
    folders: Mapping[str, Path]
    concurrent: int = 1

    @property
    def missing(self) -> str | None:
        """Why something that it needs is not to be had, or None."""
        return next((one.skipped for one in self.outcomes.values() if one.skipped is not None), None)


@dataclass(frozen=True, slots=True)
class Made:
    """What a step's function returns where files alone do not say it.

    Attributes:
        files: that it made.
        about: for `Outcome.about`.
        skipped: for `Outcome.skipped`, where something was written all the same.
    """

    files: Iterable[Path] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    skipped: str | None = None


def steps_dir() -> Path:
    """The pipeline's folder."""
    named = os.environ.get(VARIABLE)
    return Path(named).resolve() if named else work_dir() / "pipeline"


def folder_of(step: Step | Task) -> Path:
    """A step's own folder, which need not exist."""
    return steps_dir() / MADE / step.id


def outcome_of(step: Step | Task) -> Outcome | None:
    """What became of a step; None where it is not finished or a file that it made is another one by now."""
    path = _outcome_file(step)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = Outcome(**content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise EdgeSpeechError(
            f"{path}: cannot be read: {error}; remove it, and the step is made again"
        ) from error
    roots = _roots(folder_of(step))
    return found if all(_is_same(roots, *item) for item in found.files.items()) else None


def is_made(step: Step | Task) -> bool:
    """Whether a step is finished and made something."""
    found = outcome_of(step)
    return found is not None and found.skipped is None


def forget(step: Step | Task) -> None:
    """Let a step be made again; what is in its folder stays."""
    _outcome_file(step).unlink(missing_ok=True)


def make(step: Step) -> Outcome:
    """Make a step in this process, after those that it needs; nothing happens where that is done.

    Raises:
        EdgeSpeechError: it failed.
    """
    if (found := outcome_of(step)) is not None and found.skipped is None:
        return found
    for need in step.needs:
        make(need)
    return run(step.task())


def run(task: Task, concurrent: int = 1) -> Outcome:
    """Run a step's function, unless it is finished, and write down what it made.

    Two processes never run one step at once: the second waits and finds it finished.

    Args:
        task: which.
        concurrent: steps that may run at once, this one among them.

    Raises:
        EdgeSpeechError: the function failed, or something that the step needs is not finished.
    """
    folder = folder_of(task)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{folder.name}.lock")):
        if (found := outcome_of(task)) is not None and found.skipped is None:
            return found
        needs = {name: _finished(name, id_) for name, id_ in task.needs.items()}
        job = Job(
            name=task.name,
            given=task.given,
            folder=folder,
            resources=task.resources,
            outcomes=needs,
            folders={name: steps_dir() / MADE / id_ for name, id_ in task.needs.items()},
            concurrent=concurrent,
        )
        try:
            if job.missing is not None and not task.anyway:
                raise SkippedError(job.missing)
            returned = _function(task)(job)
        except SkippedError as error:
            made = Made(skipped=str(error))
        else:
            made = returned if isinstance(returned, Made) else Made(returned)
        return finish(task, made)


def finish(step: Step | Task, made: Made) -> Outcome:
    """Write down that a step is finished, and what it made.

    Raises:
        EdgeSpeechError: a file that it made is not there.
    """
    files = _stamps(folder_of(step), made.files)
    outcome = Outcome(skipped=made.skipped, files=files, about=dict(made.about))
    write_atomic(_outcome_file(step), json.dumps(asdict(outcome), indent=1))
    return outcome


def _outcome_file(step: Step | Task) -> Path:
    return steps_dir() / MADE / f"{step.id}.json"


def _finished(name: str, id_: str) -> Outcome:
    path = steps_dir() / MADE / f"{id_}.json"
    try:
        return Outcome(**json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise EdgeSpeechError(f"{path}: {name} is not finished") from error


def _function(task: Task) -> Any:
    module, _, name = task.function.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise bad(
            f"step {task.name}", "function", task.function, f"one that can be imported ({error})"
        ) from error


def _roots(folder: Path) -> dict[str, Path]:
    roots = {"own": folder, "work": work_dir()}
    if (root := checkout()) is not None:
        roots["checkout"] = root
    return roots | {"at": Path("/")}


def _is_same(roots: Mapping[str, Path], name: str, stamp: Sequence[Any]) -> bool:
    """Whether a file is as it was made. One of the same size and time is not read again."""
    kind, _, rest = name.partition("/")
    file = roots[kind] / rest if kind in roots else None
    if file is None or not file.is_file():
        return False
    status = file.stat()
    return [status.st_size, status.st_mtime_ns] == list(stamp[1:]) or sha256_file(file) == stamp[0]


def _stamps(folder: Path, files: Iterable[Path]) -> dict[str, list[Any]]:
    """`Outcome.files` of some files.

    Raises:
        EdgeSpeechError: a file is not there.
    """
    found: dict[str, list[Any]] = {}
    for file in map(Path.resolve, files):
        roots = {kind: root.resolve() for kind, root in _roots(folder).items()}
        kind, root = next((kind, root) for kind, root in roots.items() if file.is_relative_to(root))
        sha256, status = sha256_file(file), file.stat()
        name = f"{kind}/{file.relative_to(root).as_posix()}"
        found[name] = [sha256, status.st_size, status.st_mtime_ns]
    return found
