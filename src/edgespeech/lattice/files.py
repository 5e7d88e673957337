"""Lattices in files: `.lattice` is a message (`edgespeech.lattice.codec`), `.txt` Kaldi text with one lattice."""

from __future__ import annotations

from pathlib import Path

from edgespeech.core.files import regular, write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lattice.codec import Vocabulary, decode, encode
from edgespeech.lattice.draw import to_dot, to_svg
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.openfst import from_kaldi, to_kaldi
from edgespeech.lattice.paths import n_best, posteriors

MESSAGE, TEXT = ".lattice", ".txt"


def write_lattice(path: Path, lattice: Lattice, vocabulary: Vocabulary) -> int:
    """Write a lattice and return how many bytes it takes.

    Raises:
        EdgeSpeechError: the name has another suffix, the file cannot be written, or as `encode`.
    """
    if path.suffix == MESSAGE:
        content = encode(lattice, vocabulary)
    elif path.suffix == TEXT:
        content = to_kaldi({path.stem: lattice}).encode()
    else:
        raise bad(str(path), "ending", path.suffix, f"{MESSAGE} or {TEXT}")
    write_atomic(path, content)
    return len(content)


def read_lattice(path: Path, vocabulary: Vocabulary) -> Lattice:
    """Read a file of `write_lattice`, or another Kaldi text with one lattice.

    Raises:
        EdgeSpeechError: there is no such file, or its content does not match its suffix.
    """
    try:
        content = regular(path).read_bytes()
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be read: {error.strerror or error}") from error
    try:
        if path.suffix == MESSAGE:
            return decode(content, vocabulary)
        if path.suffix != TEXT:
            raise bad("name", "ending", path.suffix, f"{MESSAGE} or {TEXT}")
        found = from_kaldi(content.decode())
    except (EdgeSpeechError, UnicodeDecodeError) as error:
        raise EdgeSpeechError(f"{path}: {error}") from error
    if len(found) != 1:
        raise bad(str(path), "lattices", len(found), "one")
    return next(iter(found.values()))


def write_picture(path: Path, lattice: Lattice) -> None:
    """Draw a lattice into a `.svg` or, for Graphviz, a `.dot` file.

    Raises:
        EdgeSpeechError: the name has another ending, or the file cannot be written.
    """
    draw = {".svg": to_svg, ".dot": to_dot}.get(path.suffix)
    if draw is None:
        raise bad(str(path), "ending", path.suffix, ".svg or .dot")
    write_atomic(path, draw(lattice))


def described(lattice: Lattice, count: int) -> str:
    """A summary of a lattice for people: its size, its best paths, and its uncertain words."""
    best = n_best(lattice, count)
    lines = [f"{lattice.nodes} nodes, {len(lattice.arcs)} arcs, {len(lattice.finals)} ends"]
    lines += [f"{path.score:9.3f}  {path.text}" for path in best]
    sure = dict(zip(lattice.arcs, posteriors(lattice), strict=True))
    lines += [
        f"{arc.start * lattice.frame_s:7.2f} {arc.end * lattice.frame_s:7.2f}  {sure[arc]:5.3f}  {arc.word}"
        for arc in best[0].arcs
    ]
    return "\n".join(lines)
