"""A version stands in four places: they agree, and the changelog is in order."""

from __future__ import annotations

import re
import tomllib

import yaml
from packaging.version import Version

import edgespeech
from edgespeech.core.places import project_root

ROOT = project_root()
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
RELEASE = re.compile(r"(\d+\.\d+\.\d+), (\d{4}-\d\d-\d\d)")


def releases() -> list[tuple[Version, str]]:
    """Version and date of every release, as the changelog has them."""
    first, *others = HEADING.findall((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert first == "Unreleased"
    found = [RELEASE.fullmatch(heading) for heading in others]
    return [(Version(one[1]), one[2]) for one in found if one is not None]


def test_the_newest_release_is_the_version() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    assert {declared, str(cited), edgespeech.__version__} == {str(releases()[0][0])}


def test_the_newest_release_comes_first() -> None:
    found = releases()
    headings = HEADING.findall((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert len(found) == len(headings) - 1, headings
    assert found == sorted(found, reverse=True)
    assert [date for _, date in found] == sorted((date for _, date in found), reverse=True)
