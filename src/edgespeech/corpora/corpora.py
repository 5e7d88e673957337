"""Corpora: their content, sources and permitted use. One YAML file describes one corpus.

The files are `data_manifests/*.yaml`, and those in the folder that `EDGESPEECH_CORPORA` names, if it is set.
Splits are referred to by their name alone (`an4_test`), which is unique over all corpora.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from edgespeech.core.config import validated
from edgespeech.core.files import sha256_file, visible
from edgespeech.core.places import manifests_dir
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.manifest import Sha256
from edgespeech.errors import EdgeSpeechError, bad

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/") or not path:
        raise ValueError("a relative path that stays in its folder")
    return path


RelativePath = Annotated[str, AfterValidator(_inside)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CorpusKind(StrEnum):
    """The kind of content of a corpus."""

    SPEECH = "speech"
    """Manifests of utterances with transcripts."""
    NOISE = "noise"
    """Manifests of recordings without transcripts."""
    TEXT = "text"
    """Sentences, no audio."""
    SCORES = "scores"
    """References and hypotheses of published systems."""


class Embedded(_Strict):
    """A folder of the checkout, below `data_manifests`."""

    folder: RelativePath


class Mirror(_Strict):
    """A folder of the local mirror."""

    folder: RelativePath


class Package(_Strict):
    """A folder inside an installed Python package.

    Attributes:
        name: as imported.
        path: inside the package.
    """

    name: str
    path: RelativePath


class Url(_Strict):
    """One file to download.

    Attributes:
        url: http or https.
        sha256: as published.
        bytes: its size, if published.
        unpack: whether it is a tar archive.
    """

    url: Annotated[str, Field(pattern=r"^https?://")]
    sha256: Sha256
    bytes: Annotated[int, Field(gt=0)] | None = None
    unpack: bool = True


class Git(_Strict):
    """A folder of a git repository at a pinned commit.

    Attributes:
        repo: anything that `git clone` takes.
        commit: at least 7 hexadecimal digits.
        path: inside the repository.
    """

    repo: str
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}$")]
    path: RelativePath = "."


class HeldOut(_Strict):
    """Part of the speakers of other splits, which training leaves out; see `edgespeech.corpora.real_dev`."""

    splits: Annotated[tuple[Name, ...], Field(min_length=1)]


class Npm(_Strict):
    """A package of the npm registry, got by `npm pack`.

    Attributes:
        name: of the package.
        version: exact.
        sha256: of its archive.
    """

    name: Annotated[str, Field(pattern=r"^(@[a-z0-9._-]+/)?[a-z0-9._-]+$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    sha256: Sha256


class Source(_Strict):
    """One source of a corpus: exactly one of the kinds below.

    Attributes:
        reader: converts the layout of the original source to manifests (see `readers`); None: not needed.
        splits: which splits it provides; empty: all.
        note: shown to the user if the source cannot be used.
    """

    embedded: Embedded | None = None
    mirror: Mirror | None = None
    package: Package | None = None
    url: Url | None = None
    git: Git | None = None
    held_out: HeldOut | None = None
    npm: Npm | None = None
    reader: str | None = None
    splits: tuple[Name, ...] = ()
    note: str = ""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        kinds = ("embedded", "mirror", "package", "url", "git", "held_out", "npm")
        if sum(getattr(self, kind) is not None for kind in kinds) != 1:
            raise ValueError(f"exactly one of {', '.join(kinds)}")
        return self

    @property
    def remote(self) -> bool:
        """Whether it needs the network."""
        return bool(self.url or self.git or self.npm)

    @property
    def rank(self) -> int:
        """Its position in the order of resolution: local sources first, the network last."""
        return 0 if self.embedded else 1 if self.mirror else 2 if self.package else 3

    def __str__(self) -> str:
        if self.embedded:
            return f"embedded {self.embedded.folder}"
        if self.mirror:
            return f"mirror {self.mirror.folder}"
        if self.package:
            return f"package {self.package.name}"
        if self.url:
            return self.url.url
        if self.held_out:
            return f"held-out speakers of {', '.join(self.held_out.splits)}"
        if self.npm:
            return f"npm package {self.npm.name} {self.npm.version}"
        assert self.git is not None
        return f"{self.git.repo} @{self.git.commit}"


class Select(_Strict):
    """Which lines of a manifest make a split: those of this `split`, or those with these `ids`."""

    split: str | None = None
    ids: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.split is None) == (not self.ids):
            raise ValueError("exactly one of split, ids")
        return self


class Split(_Strict):
    """One split of a corpus.

    Attributes:
        manifest: the file's name.
        sha256: of the file as the mirror has it. A copy made from the original source has other audio files and so
            another hash; it is compared by `content_sha256`.
        content_sha256: of the ids and texts alone (`Manifest.content_sha256`), the same from every source.
        utterances: how many it holds; lines, for text.
        audio_s: seconds of audio in all.
        evaluation_only: neither for training nor for tuning.
        tuning_only: for tuning, not for training.
        resampling_unit: the clusters of the bootstrap: speakers if known, else utterances.
        select: which of the manifest's lines; None: all.
        grammar: name of the grammar that parses hypotheses, if the split's utterances are commands.
        prose: whether its lines are written text that must be converted to spoken form.
        notes: footnotes for table rows on this split.
        context: list of likely phrases (`data_manifests/contexts`) for B-WER and U-WER.
    """

    manifest: RelativePath
    sha256: Sha256 | None = None
    content_sha256: Sha256 | None = None
    utterances: Annotated[int, Field(gt=0)] | None = None
    audio_s: Annotated[float, Field(gt=0)] | None = None
    evaluation_only: bool
    tuning_only: bool = False
    resampling_unit: Literal["speaker", "utterance"] = "utterance"
    select: Select | None = None
    grammar: Name | None = None
    context: Name | None = None
    prose: bool = False
    notes: tuple[str, ...] = ()


class Corpus(_Strict):
    """A corpus, as its YAML file describes it.

    Attributes:
        name: the file's stem.
        title: in one line.
        kind: of its content.
        licence: as stated by its source.
        citation: how to cite it.
        homepage: its web page.
        sources: in the order of resolution: embedded, mirror, package, then url, git or npm.
        splits: by name.
        files: further files besides the manifests, name to sha256.
    """

    name: Name
    title: str
    kind: CorpusKind
    licence: str
    citation: str
    homepage: str
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    splits: Annotated[dict[Name, Split], Field(min_length=1)]
    files: dict[RelativePath, Sha256] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ranks = [source.rank for source in self.sources]
        if ranks != sorted(ranks):
            raise ValueError("sources in the order embedded, mirror, package, then url, git or npm")
        for source in self.sources:
            for split in source.splits:
                if split not in self.splits:
                    raise ValueError(f"sources that name its splits only, not {split!r}")
        return self

    def covered_by(self, source: Source) -> tuple[str, ...]:
        """The names of the splits that a source gives."""
        return source.splits or tuple(self.splits)


def _yaml_files() -> dict[str, Path]:
    folders = [manifests_dir()]
    if extra := os.environ.get("EDGESPEECH_CORPORA"):
        if not Path(extra).is_dir():
            raise bad("environment", "EDGESPEECH_CORPORA", extra, "an existing folder")
        folders.append(Path(extra))
    found: dict[str, Path] = {}
    for folder in folders:
        for path in visible(folder, "*.yaml"):
            if path.stem in found:
                raise bad(str(path), "name", path.stem, f"a new name: {found[path.stem]} has this one")
            found[path.stem] = path
    return found


def corpus_names() -> list[str]:
    """The names of all corpora, sorted."""
    return sorted(_yaml_files())


def load_corpus(name: str) -> Corpus:
    """Read and validate the description of a corpus.

    Raises:
        EdgeSpeechError: there is no such corpus, or its file is not YAML, has an unknown key or a bad value.
    """
    files = _yaml_files()
    if name not in files:
        raise bad("corpora", "name", name, f"one of {', '.join(sorted(files))}")
    path = files[name]
    corpus = _described(path, sha256_file(path))
    if corpus.name != name:
        raise bad(str(path), "name", corpus.name, f"{name!r}, as the file is called")
    return corpus


@lru_cache(maxsize=256)  # to find a split all descriptions are read, and many things ask for splits
def _described(path: Path, sha256: str) -> Corpus:
    """The description in a file with this hash."""
    del sha256
    return validated(Corpus, load_yaml(path), str(path))


def split_names() -> dict[str, str]:
    """Every split's name, with its corpus's.

    Raises:
        EdgeSpeechError: two corpora have a split of the same name, or a description is not valid.
    """
    owner: dict[str, str] = {}
    for name in corpus_names():
        for split in load_corpus(name).splits:
            if split in owner:
                raise bad(name, "split", split, f"a name of its own: {owner[split]} has this one")
            owner[split] = name
    return owner


def find_split(name: str) -> tuple[Corpus, str]:
    """Resolve the name of a split, or of a corpus with a single split.

    Raises:
        EdgeSpeechError: there is no such split, or the corpus has several (the message lists them).
    """
    owner = split_names()
    if name in owner:
        return load_corpus(owner[name]), name
    if name not in corpus_names():
        near = ", ".join(get_close_matches(name, owner, n=4, cutoff=0.4))
        expected = "one that `edgespeech corpora` lists, or a manifest file that exists"
        raise bad("corpora", "split", name, expected + (f"; similar: {near}" if near else ""))
    corpus = load_corpus(name)
    if len(corpus.splits) > 1:
        raise bad("corpora", "split", name, f"one split of {name}: {', '.join(corpus.splits)}")
    return corpus, next(iter(corpus.splits))


def assert_trainable(split: str) -> None:
    """Refuse a split that is for evaluation or tuning only. Training code calls this for every split it reads.

    Raises:
        EdgeSpeechError: the split is for evaluation or tuning only, or unknown.
    """
    corpus, name = find_split(split)
    found = corpus.splits[name]
    if found.evaluation_only or found.tuning_only:
        use = "evaluation" if found.evaluation_only else "tuning"
        raise EdgeSpeechError(
            f"{name}: is for {use} only ({corpus.title}), expected a split that may be trained on"
        )
