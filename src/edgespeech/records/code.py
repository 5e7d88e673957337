"""A hash of the code that measures, by what it says and not by how it looks.

A page's record keeps the hash, and the page is marked stale once it differs. So that only changes of behaviour count,
Python is hashed as its syntax tree without docstrings, comments, formatting and import lines: a module that was moved
or described anew has the hash that it had. What is imported counts by its own content.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

PACKAGE = "edgespeech"
NATIVE = {".c", ".cc", ".cpp", ".h", ".hpp"}
NOT_MEASURING = {"report", "pipeline", "cli"}
"""Rooms of the package that render, schedule and take commands; they decide no figure."""


def measuring_sha256(entries: Iterable[Path], package: Path, build: Path | None = None) -> str:
    """Hash of some modules and of all that they import of the package, at the top or inside functions.

    Args:
        entries: modules to begin with, such as a replication's; all of them count.
        package: the folder of `edgespeech`. Rooms of `NOT_MEASURING` in it do not count, nor does what they import.
        build: the file that says how C++ is compiled; it and the C++ count where a module of a folder with C++ does.

    Raises:
        SyntaxError: a module is not Python.
    """
    seen: set[Path] = set()
    todo = sorted(entries)
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        todo += [found for found in _imported(path, package) if found not in seen]
    parts = [_python(path.read_text(encoding="utf-8")) for path in seen]
    native = {
        file
        for folder in {path.parent for path in seen if path.is_relative_to(package)}
        for file in folder.rglob("*")
        if file.suffix in NATIVE and folder != package
    }
    parts += [file.read_bytes() for file in native]
    if native and build is not None and build.is_file():
        parts.append(build.read_bytes())
    hashes = sorted(hashlib.sha256(part).hexdigest() for part in parts)
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


@lru_cache(maxsize=1024)  # pages share most of their modules
def _python(source: str) -> bytes:
    """A module's syntax tree without docstrings and imports, as text."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _silent(one)]  # type: ignore[attr-defined]  # it has a body
    return ast.dump(tree, include_attributes=False).encode()


def _silent(node: ast.stmt) -> bool:
    """Whether a statement decides nothing by itself: an import, or a string that nobody takes."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imported(path: Path, package: Path) -> Iterator[Path]:
    """The package's modules that a module imports. Recognisers are discovered by their room: all of it counts."""
    for name in _names(path.read_text(encoding="utf-8")):
        yield from _modules(name, package)
    if path.is_relative_to(package) and path.stem == "discovery":
        yield from sorted((package / "systems").glob("*.py"))


@lru_cache(maxsize=1024)
def _names(source: str) -> tuple[str, ...]:
    """All that a module's text imports, by dotted names; what is imported from a module may be one too."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _modules(name: str, package: Path) -> Iterator[Path]:
    """The files of a module's name; none for another package's, or for a name within a module."""
    parts = name.split(".")
    if parts[0] != PACKAGE or (len(parts) > 1 and parts[1] in NOT_MEASURING):
        return
    stem = package.joinpath(*parts[1:])
    for file in (stem.with_suffix(".py"), stem / "__init__.py"):
        if file.is_file() and stem != package:
            yield file
