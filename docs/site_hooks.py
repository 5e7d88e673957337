"""What MkDocs does not do by itself: pages from outside `docs/`, and links that suit both repository and site.

The replication pages, the published tables and plots and the changelog join the site under the paths that they have in
the repository. A link to any other file of the repository becomes its text: it has no address on the site.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = (
    "CHANGELOG.md",
    "replication/*/README.md",
    "replication/*/*.svg",
    "results/*.md",
    "results/plots/*.svg",
)
"""What joins the site."""
REPLICATIONS = "Replications"
"""The part of the navigation that lists the pages of the techniques."""
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"^ *(```|~~~)")
_AWAY = re.compile(r"[a-z][a-z0-9+.-]*:|#")
"""Starts a target that is no path: an address or an anchor of the same page."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List every replication page in the navigation, so that a new technique edits no file of the site."""
    pages = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("replication/*/README.md"))
    assert config.nav is not None
    for entry in config.nav:
        if isinstance(entry, dict) and REPLICATIONS in entry:
            entry[REPLICATIONS] = pages
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures from outside `docs/`."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Change links as the site needs them; code blocks stay."""
    where = _repository_path(page.file)

    def change(found: re.Match[str]) -> str:
        target = found["target"]
        if _AWAY.match(target):
            return found[0]
        text = _LINK.sub(change, found["text"])
        path, _, anchor = target.partition("#")
        wanted = PurePosixPath(os.path.normpath(where.parent / path))
        uri = _site_uri(wanted)
        if files.get_file_from_path(uri) is None and (ROOT / wanted).exists():
            return text
        moved = os.path.relpath(uri, PurePosixPath(page.file.src_uri).parent)
        return f"{found['image']}[{text}]({moved}{'#' if anchor else ''}{anchor})"

    return "\n".join(_LINK.sub(change, line) if prose else line for prose, line in _lines(markdown))


def _lines(markdown: str) -> Iterator[tuple[bool, str]]:
    """Every line, and whether it is outside code blocks; a paragraph counts as one line, since links wrap."""
    fenced = False
    prose: list[str] = []
    for line in markdown.split("\n"):
        if _FENCE.match(line):
            if prose:
                yield True, "\n".join(prose)
                prose = []
            fenced = not fenced
            yield False, line
        elif fenced:
            yield False, line
        else:
            prose.append(line)
    if prose:
        yield True, "\n".join(prose)


def _repository_path(file: File) -> PurePosixPath:
    """Where a page of the site lies in the repository."""
    assert file.abs_src_path is not None
    return PurePosixPath(Path(file.abs_src_path).relative_to(ROOT).as_posix())


def _site_uri(path: PurePosixPath) -> str:
    """Where a file of the repository lies on the site, if it is there."""
    return path.relative_to("docs").as_posix() if path.is_relative_to("docs") else path.as_posix()
