"""Links hold in the repository and on the site, citations of the papers page exist, and the tutorial's commands run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "results" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*.md")),
    *sorted((ROOT / "replication").glob("*/README.md")),
]
FENCED = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]*)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    heads = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_the_repository_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def cited() -> Iterator[tuple[Path, str, str]]:
    """File, section and part of every citation of the papers page."""
    for folder in ("src", "replication", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md", ".yaml", ".cpp", ".hpp"):
                text = path.read_text(encoding="utf-8")
                for found in re.finditer(r"papers\.md section (\d+\w?)(?: \((\w)\))?", text):
                    yield path, found[1], found[2] or ""


def test_cited_sections_of_the_papers_page_exist() -> None:
    text = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (\d+)\. ", text, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    found = list(cited())
    assert found
    for path, section, part in found:
        assert section in sections, (path, section)
        assert not part or f"**({part})" in sections[section], (path, section, part)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """In strict mode a dead link or anchor, a page without a place or a name without a docstring is an error."""
    pytest.importorskip("mkdocs", reason="the documentation's packages are not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "replication/qat/index.html" in index
    assert "EventKind" in (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img)[^>]+(?:src|href)=\"(https?:[^\"]+)", page.read_text("utf-8")
        )
        assert loaded == [], page


def commands() -> list[str]:
    """The tutorial's shell commands, in order."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def test_the_commands_of_the_tutorial_run(tmp_path: Path) -> None:
    """Each as it stands, with what it writes in a folder of its own."""
    links = [path for path in ROOT.iterdir() if path.name not in ("out", "mine", "mine.jsonl", "events.json")]
    for path in links:
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "bin").mkdir()
    for name, module in (("edgespeech", "-m edgespeech.cli"), ("python", "")):
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
        script.chmod(0o755)
    search = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    work = str(tmp_path / "work")
    environment = {**os.environ, "PATH": search, "OMP_NUM_THREADS": "1", "EDGESPEECH_WORK": work}
    ran = commands()
    assert len(ran) >= 10
    for command in ran:
        if "report --check" in command:
            continue  # `make test` runs it by itself
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert len(list((tmp_path / "out").glob("*.json"))) == 2
    assert len(list((tmp_path / "mine").glob("*.json"))) == 1


def test_git_ignores_what_the_tutorial_writes() -> None:
    text = "\n".join(commands())
    written = set(re.findall(r"(?:--out|>) (\S+)", text))
    assert len(written) >= 4
    done = subprocess.run(
        [
            "git",
            "check-ignore",
            "--no-index",
            *(f"{name}x" if name.endswith("/") else name for name in written),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(done.stdout.splitlines()) == len(written), done.stdout + done.stderr


def test_cleaning_keeps_the_history_of_benchmarks() -> None:
    """It is in no other place: what `make clean` would run names neither `.asv` nor a folder above it."""
    done = subprocess.run(["make", "-n", "clean"], cwd=ROOT, capture_output=True, text=True, check=True)
    removed = [word for line in done.stdout.splitlines() for word in shlex.split(line)[1:] if word[0] != "-"]
    assert removed
    assert not {".asv", ".asv/", ".", "*", ".*"} & set(removed)
