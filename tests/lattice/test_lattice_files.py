"""Lattices in files, in words and in pictures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given

from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.codec import Vocabulary, rounded
from edgespeech.lattice.draw import to_dot, to_svg
from edgespeech.lattice.files import described, read_lattice, write_lattice, write_picture
from edgespeech.lattice.lattice import Arc, Final, Lattice
from helpers_lattice import SOME, WORDS, lattices, random_lattice

KNOWN = Vocabulary(WORDS)
LATTICE = random_lattice(7, 6)


@pytest.mark.parametrize("name", ["one.lattice", "one.txt"])
def test_files_come_back(tmp_path: Path, name: str) -> None:
    size = write_lattice(tmp_path / name, LATTICE, KNOWN)
    assert (tmp_path / name).stat().st_size == size
    found = read_lattice(tmp_path / name, KNOWN)
    expected = rounded(LATTICE) if name.endswith(".lattice") else LATTICE
    assert described(found, 3).splitlines()[:4] == described(expected, 3).splitlines()[:4]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.lattice", b"abc", "length"),
        ("a.txt", b"\xff", "utf-8"),
        ("a.txt", b"", "lattices is 0"),
        ("a.txt", b"u\n0\n\nv\n0\n", "lattices is 2"),
        ("a.fst", b"", "ending"),
        ("a.lattice", None, "could not be read"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EdgeSpeechError, match=told) as error:
        read_lattice(path, KNOWN)
    assert name in str(error.value)


def test_a_name_says_what_to_write(tmp_path: Path) -> None:
    for write in (
        lambda path: write_lattice(path, LATTICE, KNOWN),
        lambda path: write_picture(path, LATTICE),
    ):
        with pytest.raises(EdgeSpeechError, match="ending"):
            write(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@SOME
@given(lattices())
def test_pictures_show_every_arc_and_node(lattice: Lattice) -> None:
    svg = ElementTree.fromstring(to_svg(lattice))
    shapes = [element.tag.rpartition("}")[2] for element in svg.iter()]
    assert (shapes.count("path"), shapes.count("circle")) == (len(lattice.arcs), lattice.nodes)
    words = sorted(text.text or "" for text in svg.iter("{http://www.w3.org/2000/svg}text"))
    assert words == sorted(arc.word for arc in lattice.arcs)
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    for circle in svg.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height
    assert to_dot(lattice).count(" -> ") == len(lattice.arcs)


def test_words_are_escaped() -> None:
    lattice = Lattice((Arc(0, 1, '<a&"', -1.0),), (Final(1),))
    assert "&lt;a&amp;" in to_svg(lattice)
    assert r"\"" in to_dot(lattice)


def test_the_best_paths_are_printed_with_times_and_probabilities() -> None:
    lattice = Lattice((Arc(0, 1, "off", -2.0), Arc(0, 1, "on", -1.0, 0, 5, 10)), (Final(1),))
    assert described(lattice, 5).splitlines() == [
        "2 nodes, 2 arcs, 1 ends",
        "   -1.000  on",
        "   -2.000  off",
        "   0.20    0.40  0.731  on",
    ]
