"""Hashes of the code that measures, which change with behaviour and not with wording or layout.

A page's record stores the hash of each file. Once the present code differs, the page is marked stale and says which
files do. So that only changes of behaviour count, Python is hashed as its syntax tree without docstrings, comments,
formatting, import lines and the texts of error messages; C++ is hashed without comments and spacing. A module that
was moved, or whose documentation was rewritten, has the same hash as before. Imported modules count by their own
content.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import lru_cache
from pathlib import Path

PACKAGE = "edgespeech"
NATIVE = {".c", ".cc", ".cpp", ".h", ".hpp"}
MESSAGES = {"bad", "explain"}
"""Functions of the package that make an error; the texts in their arguments are read by people alone."""
_CPP_TOKEN = re.compile(
    r'(?P<spacing>(?://[^\n]*|/\*.*?\*/|\s+)+)|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL
)
NOT_MEASURING = {"report", "pipeline", "steps", "cli"}
"""Rooms of the package that render, schedule and take commands; they decide no figure."""


def measuring_files(
    entries: Iterable[Path], package: Path, build: Path | None = None, *, without: Iterable[str] = ()
) -> dict[str, str]:
    """Hashes of some modules and of all that they import of the package, at the top or inside functions.

    Args:
        entries: modules to begin with, such as a replication's; all of them count.
        package: the folder of `edgespeech`. Rooms of `NOT_MEASURING` in it do not count, nor does what they import.
        build: the file with the compiler settings of C++; it and the C++ sources count if a module in their folder
            does.
        without: further rooms that do not count, though they are imported, nor does what they import.

    Returns:
        The sha256 of each file's behaviour by its name, with the folder that it is in or from the package on.

    Raises:
        SyntaxError: a module is not Python.
    """

    def name(path: Path) -> str:
        within = path.is_relative_to(package)
        return path.relative_to(package.parent if within else path.parent.parent).as_posix()

    left_out = NOT_MEASURING | set(without)
    seen: set[Path] = set()
    todo = sorted(entries)
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        todo += [found for found in _imported(path, package, left_out) if found not in seen]
    parts = {name(path): _python(path.read_text(encoding="utf-8")) for path in seen}
    native = {
        file
        for folder in {path.parent for path in seen if path.is_relative_to(package)}
        for file in folder.rglob("*")
        if file.suffix in NATIVE and folder != package
    }
    parts |= {name(file): _native(file.read_text(encoding="utf-8")) for file in native}
    if native and build is not None and build.is_file():
        parts[build.name] = build.read_bytes()
    return {key: hashlib.sha256(part).hexdigest() for key, part in sorted(parts.items())}


def sha256_of(files: Mapping[str, str]) -> str:
    """One hash of `measuring_files`, the same where a file has only moved."""
    return hashlib.sha256("\n".join(sorted(files.values())).encode()).hexdigest()


def differing(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The files whose behaviour differs, by name; one that has only moved does not.

    Args:
        before: a record's hashes, cut short.
        now: the present ones, whole.
    """
    length = max(map(len, before.values()), default=0)
    short = {name: found[:length] for name, found in now.items()}
    gone = {name for name, found in before.items() if found not in set(short.values())}
    new = {name for name, found in short.items() if found not in set(before.values())}
    return sorted(gone | new)


@lru_cache(maxsize=1024)  # pages share most of their modules
def _python(source: str) -> bytes:
    """A module's syntax tree without docstrings, imports and texts of error messages, as text."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) or (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MESSAGES
        ):
            _unworded(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _silent(one)]  # type: ignore[attr-defined]  # it has a body
    return ast.dump(tree, include_attributes=False).encode()


def _unworded(node: ast.AST) -> None:
    """Replace every text within an error by the empty one: the error's type and its values still count."""
    for part in ast.walk(node):
        if isinstance(part, ast.JoinedStr):
            part.values = [value for value in part.values if isinstance(value, ast.FormattedValue)]
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            part.value = ""


def _native(source: str) -> bytes:
    """C++ without comments, with one space for each run of white space outside of literals."""
    text = _CPP_TOKEN.sub(lambda found: " " if found["spacing"] else found.group(), source)
    return text.strip().encode()


def _silent(node: ast.stmt) -> bool:
    """Whether a statement has no effect by itself: an import, or a string that is not used."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imported(path: Path, package: Path, left_out: Set[str]) -> Iterator[Path]:
    """The package's modules that a module imports. Recognisers are discovered in their folder: all of it counts."""
    for name in _names(path.read_text(encoding="utf-8")):
        yield from _modules(name, package, left_out)
    if path.is_relative_to(package) and path.stem == "discovery" and "systems" not in left_out:
        yield from sorted((package / "systems").glob("*.py"))


@lru_cache(maxsize=1024)
def _names(source: str) -> tuple[str, ...]:
    """The dotted names of all imports in a module's text; a name imported from a module may be a module too."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _modules(name: str, package: Path, left_out: Set[str]) -> Iterator[Path]:
    """The files of a module's name; none for another package's, or for a name within a module."""
    parts = name.split(".")
    if parts[0] != PACKAGE or (len(parts) > 1 and parts[1] in left_out):
        return
    stem = package.joinpath(*parts[1:])
    for file in (stem.with_suffix(".py"), stem / "__init__.py"):
        if file.is_file() and stem != package:
            yield file
