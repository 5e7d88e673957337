"""Model weights: their sources, verification and size.

One YAML file per model in `data_manifests/models/` lists the model's files with their SHA-256 and size, and every
source of them: installed packages (a file may be split over several packages), archives of package registries
(`edgespeech.corpora.archives`), or a model hub at a pinned revision.
Every file is verified on every load, outside all timing.
"""

from __future__ import annotations

import math
import os
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgespeech.core.config import validated
from edgespeech.core.files import sha256_file, visible
from edgespeech.core.folders import make_folder
from edgespeech.core.places import manifests_dir, work_dir
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.archives import Archive, archives_folder, opened
from edgespeech.errors import EdgeSpeechError, bad


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Strict):
    """A file of an installed package, by its path inside the package's installation folder; or of an archive."""

    package: str = ""
    archive: str = ""
    path: str

    @model_validator(mode="after")
    def _either(self) -> Self:
        if bool(self.package) == bool(self.archive):
            raise ValueError("exactly one of package, archive")
        return self


class FileSpec(_Strict):
    """One file of a model: its hash, its size in bytes, and its parts."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    n_bytes: Annotated[int, Field(ge=0, alias="bytes")]
    parts: tuple[Part, ...] = ()


class Hub(_Strict):
    """A repository of the model hub at one revision (a full commit hash: a branch may move)."""

    repo: str
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Source(_Strict):
    """One source of the model, packages, archives or a hub, and its files.

    Attributes:
        files: by name.
        hub: where there are no parts.
        archives: how to get each archive, by its file name.
    """

    files: Annotated[dict[str, FileSpec], Field(min_length=1)]
    hub: Hub | None = None
    archives: dict[str, Archive] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _either(self) -> Self:
        for name, spec in self.files.items():
            if bool(spec.parts) == (self.hub is not None):
                raise ValueError(f"{name} to have parts where there is no hub, and none where there is one")
            for part in spec.parts:
                if part.archive and part.archive not in self.archives:
                    raise ValueError(f"{name}: archive {part.archive} to be one of archives")
        return self

    @property
    def label(self) -> str:
        """For display: `packages a + b`, `archives a + b` or `hub REPO@REVISION`."""
        if self.hub is not None:
            return f"hub {self.hub.repo}@{self.hub.revision}"
        parts = [part for spec in self.files.values() for part in spec.parts]
        packages = dict.fromkeys(part.package for part in parts if part.package)
        known = [("packages", list(packages)), ("archives", list(self.archives))]
        return ", ".join(f"{kind} {' + '.join(names)}" for kind, names in known if names)


class ModelSpec(_Strict):
    """A model: name, citation, licence, and sources in the order in which they are tried."""

    name: str
    citation: str
    licence: str
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Verified weights on disk.

    Attributes:
        folder: where the files are.
        files: file (relative to `folder`) to SHA-256.
        n_bytes: size of all of them.
        source: the source they were loaded from.
        citation: of the model, with its licence.
    """

    folder: Path
    files: Mapping[str, str]
    n_bytes: int
    source: str
    citation: str


def model_names() -> list[str]:
    """The models that have a specification, sorted."""
    return [path.stem for path in visible(_specs_folder(), "*.yaml")]


def load_spec(name: str) -> ModelSpec:
    """The specification of a model.

    Raises:
        EdgeSpeechError: there is none of this name, or it is not valid.
    """
    path = _specs_folder() / f"{name}.yaml"
    if not path.is_file():
        raise bad("weights", "model", name, "one of " + ", ".join(model_names()))
    return validated(ModelSpec, load_yaml(path), str(path))


def resolve_weights(name: str, path: Path | None = None) -> Weights:
    """Find a model's weights and verify them.

    Args:
        name: of the model, see `model_names`.
        path: a folder with the files of any one source; None tries the sources in order.

    Raises:
        EdgeSpeechError: no source has them (the message lists the sources tried), or a file's hash differs (the message
            has both hashes, and fetched files are removed).
    """
    spec = load_spec(name)
    if path is not None:
        source = _source_of_folder(spec, path)
        return _weights(spec, source, path, f"folder given ({source.label})")
    tried: list[str] = []
    for source in spec.sources:
        try:
            folder = _from_hub(name, source) if source.hub is not None else _from_packages(name, source)
        except _Absent as error:
            tried.append(f"{source.label}: {error}")
        else:
            return _weights(spec, source, folder, source.label)
    raise EdgeSpeechError(f"weights of {name} not found; tried " + "; ".join(tried))


def weights_available(name: str, path: Path | None = None) -> str | None:
    """Why `resolve_weights` cannot succeed here, or None when it may. Cheap: it reads no weights.

    A model that is only on a hub counts as available unless `HF_HUB_OFFLINE` is set.
    """
    if path is not None:
        return None if path.is_dir() else f"no folder {path}"
    reasons: list[str] = []
    for source in load_spec(name).sources:
        try:
            if source.hub is None:
                _part_paths(source)
            elif not _hub_folder(name).is_dir():
                _check_hub_usable()
        except _Absent as error:
            reasons.append(f"{source.label}: {error}")
        else:
            return None
    return f"no weights of {name} ({'; '.join(reasons)})"


def count_parameters(model_bin: Path) -> int:
    """The number of weights in a CTranslate2 `model.bin` (binary version 6): elements of every array in it.

    Scalars are settings and do not count. Attention's fused query, key and value biases do, with the key part
    that Whisper leaves out and the converter fills with zeros.

    Raises:
        EdgeSpeechError: the file is missing or has another layout.
    """
    try:
        with model_bin.open("rb") as file:

            def number(layout: str) -> int:
                return int(struct.unpack(f"<{layout}", file.read(struct.calcsize(layout)))[0])

            if (version := number("I")) != 6:
                raise bad(str(model_bin), "binary version", version, "6")
            file.seek(number("H"), os.SEEK_CUR)  # the specification's name
            number("I")  # and its revision
            total = 0
            for _ in range(number("I")):
                file.seek(number("H"), os.SEEK_CUR)  # the variable's name
                shape = [number("I") for _ in range(number("B"))]
                number("B")  # its type
                file.seek(number("I"), os.SEEK_CUR)
                total += math.prod(shape) if shape else 0
            return total
    except (OSError, struct.error) as error:
        raise EdgeSpeechError(f"{model_bin}: not a CTranslate2 model: {error}") from error


class _Absent(Exception):  # noqa: N818  # not an error: the next source may have it
    """This source is not available here; the message says why."""


def _specs_folder() -> Path:
    return manifests_dir() / "models"


def _mismatch(folder: Path, files: Mapping[str, FileSpec]) -> str | None:
    """The problem with a folder's first wrong file, or None if all are as specified."""
    for name, spec in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path}: missing"
        if (found := sha256_file(path)) != spec.sha256:
            return (
                f"{path}: sha256 is {found} ({path.stat().st_size} bytes), "
                f"expected {spec.sha256} ({spec.n_bytes} bytes)"
            )
    return None


def _weights(spec: ModelSpec, source: Source, folder: Path, label: str) -> Weights:
    return Weights(
        folder=folder,
        files={name: file.sha256 for name, file in source.files.items()},
        n_bytes=sum(file.n_bytes for file in source.files.values()),
        source=label,
        citation=f"{spec.citation}; {spec.licence}",
    )


def _source_of_folder(spec: ModelSpec, folder: Path) -> Source:
    """The source whose files this folder has.

    Raises:
        EdgeSpeechError: it matches no source; the message says how it differs from the closest.
    """
    if not folder.is_dir():
        raise bad(f"weights of {spec.name}", "path", str(folder), "an existing folder")
    problems: list[tuple[int, str]] = []
    for source in spec.sources:
        problem = _mismatch(folder, source.files)
        if problem is None:
            return source
        absent = sum(not (folder / name).is_file() for name in source.files)
        problems.append((absent, problem))
    raise EdgeSpeechError(f"not the weights of {spec.name}: {min(problems)[1]}")


def _part_paths(source: Source) -> dict[str, list[Path]]:
    """The paths of every file's parts in the installed packages; of a part in an archive, that of the archive.

    Raises:
        _Absent: a package, a file of it, or an archive is missing.
    """
    return {name: [_part_path(source, part) for part in spec.parts] for name, spec in source.files.items()}


def _part_path(source: Source, part: Part) -> Path:
    if part.archive:
        path = archives_folder() / part.archive
        if not path.is_file():
            raise _Absent(f"no {path}: get it with: {source.archives[part.archive].command}")
        return path
    try:
        path = Path(str(distribution(part.package).locate_file(part.path)))
    except PackageNotFoundError:
        raise _Absent(f"package {part.package} is not installed") from None
    if not path.is_file():
        raise _Absent(f"package {part.package} has no {part.path}")
    return path


def _from_packages(name: str, source: Source) -> Path:
    """A verified folder: the package's own if it has every file unchanged, else one assembled once.

    Raises:
        _Absent: a package is missing.
        EdgeSpeechError: a file of the packages is not as specified.
    """
    parts = _part_paths(source)
    in_place = {None} if source.archives else {_folder_of(paths, file) for file, paths in parts.items()}
    if len(in_place) == 1 and (folder := in_place.pop()) is not None:
        if problem := _mismatch(folder, source.files):
            raise EdgeSpeechError(f"weights of {name}: {problem}")
        return folder
    target = work_dir() / "models" / name
    if target.is_dir() and _mismatch(target, source.files) is None:
        return target
    return _assemble(name, source, parts, target)


def _assemble(name: str, source: Source, parts: Mapping[str, list[Path]], target: Path) -> Path:
    """Assemble the files beside `target`, verify them, and only then rename the folder."""

    def fill(made: Path) -> None:
        for file, paths in parts.items():
            (made / file).parent.mkdir(parents=True, exist_ok=True)
            with (made / file).open("wb") as out:
                for path, part in zip(paths, source.files[file].parts, strict=True):
                    with opened(path, part.path) if part.archive else path.open("rb") as piece:
                        shutil.copyfileobj(piece, out, 1 << 20)
        if problem := _mismatch(made, source.files):
            raise EdgeSpeechError(f"weights of {name} put together from {source.label}: {problem}")

    make_folder(target, fill, lambda folder: folder.is_dir() and _mismatch(folder, source.files) is None)
    return target


def _folder_of(paths: list[Path], file: str) -> Path | None:
    """The folder in which this one path is named `file`, or None if it is split or has another name."""
    depth = len(PurePosixPath(file).parts)
    if len(paths) != 1 or paths[0].parts[-depth:] != PurePosixPath(file).parts:
        return None
    return paths[0].parents[depth - 1]


def _hub_folder(name: str) -> Path:
    return work_dir() / "models" / f"{name}-hub"


def _check_hub_usable() -> None:
    if find_spec("huggingface_hub") is None:
        raise _Absent("package huggingface_hub is not installed")
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        raise _Absent("HF_HUB_OFFLINE is set")


def _from_hub(name: str, source: Source) -> Path:
    """The verified folder of the hub's files; fetched once, resuming an earlier download.

    Raises:
        _Absent: the hub cannot be reached or does not have it.
        EdgeSpeechError: a file is not as specified; the folder is removed.
    """
    folder = _hub_folder(name)
    if folder.is_dir() and _mismatch(folder, source.files) is None:
        return folder
    _check_hub_usable()
    from huggingface_hub import snapshot_download

    assert source.hub is not None
    try:
        snapshot_download(
            source.hub.repo,
            revision=source.hub.revision,
            allow_patterns=list(source.files),
            local_dir=folder,
        )
    except (
        Exception
    ) as error:  # the client's own, its transport's, the file system's: all mean "not from here"
        raise _Absent(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}") from error
    if problem := _mismatch(folder, source.files):
        shutil.rmtree(folder)
        raise EdgeSpeechError(f"weights of {name} from {source.label}: {problem}")
    return folder
