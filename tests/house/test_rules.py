"""The rules of the house that are not about who may import whom (that is import-linter's, see pyproject.toml)."""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from functools import cache

import pytest

from edgespeech.core.places import project_root

ROOT = project_root()
SRC = ROOT / "src" / "edgespeech"
MAX_CODE_LINES = 400
MAX_HARNESS_FILES = 20
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
COUNTERS = ("jiwer", "edgespeech.metrics.wer.count", "edgespeech.metrics.bias.count")


@dataclass(frozen=True)
class Module:
    """What a file says.

    Attributes:
        name: its path from the checkout.
        code_lines: lines that hold code: no blank ones, no comments, no docstrings.
        strings: those that the program uses; docstrings are for readers, and may name what they like.
        imports: every module that is imported, wherever in the file; `from A import b` is `A.b`.
    """

    name: str
    code_lines: int
    strings: tuple[str, ...]
    imports: tuple[str, ...]


def read(source: str, name: str = "x.py") -> Module:
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    prose: set[ast.AST] = set()
    strings: list[str] = []
    imports: list[str] = []
    for node in ast.walk(ast.parse(source)):  # statements come before the strings in them
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            prose.add(node.value)
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose:
            strings.append(node.value)
        elif isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            imports += [f"{node.module}.{alias.name}" for alias in node.names]
    return Module(name, len(lines), tuple(strings), tuple(imports))


@cache
def modules(folder: str) -> tuple[Module, ...]:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    return tuple(read(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()) for path in paths)


def test_lines_of_code_are_those_that_do_something() -> None:
    source = '"""Two\nlines."""\n\n# why\nx = (\n    1,  # one\n)\n"""About x."""\ny = """a\n\nb"""\n'
    found = read(source + "from a import b\n")
    assert found.code_lines == 3 + 3 + 1
    assert found.strings == ("a\n\nb",)
    assert found.imports == ("a.b",)


@pytest.mark.parametrize("folder", ["src", "replication", "benchmarks", "fuzz"])
def test_no_file_is_long(folder: str) -> None:
    long = {found.name: found.code_lines for found in modules(folder) if found.code_lines > MAX_CODE_LINES}
    assert long == {}, f"expected at most {MAX_CODE_LINES} lines of code in a file"


def test_the_harness_is_small() -> None:
    assert len(list((SRC / "harness").rglob("*.py"))) <= MAX_HARNESS_FILES


def test_only_the_pipeline_knows_of_replications() -> None:
    for module in modules("src"):
        assert not any(name.split(".")[0] == "replication" for name in module.imports), module.name
        if not module.name.startswith("src/edgespeech/pipeline/"):
            named = [text for text in module.strings if "replication/" in text or text == "replication"]
            assert named == [], f"{module.name} says {named}"


def test_only_places_knows_where_results_are() -> None:
    outside = {"src/edgespeech/corpora/readers.py"}  # a folder of a public repository that is called so
    for module in modules("src"):
        if module.name not in {"src/edgespeech/core/places.py", *outside}:
            assert not any("results" in text.split("/") for text in module.strings), module.name


def test_errors_are_counted_by_the_metrics_the_harness_and_the_comparison_alone() -> None:
    may = ("src/edgespeech/metrics/", "src/edgespeech/harness/", "src/edgespeech/report/compare.py")
    found = {
        module.name
        for module in (*modules("src"), *modules("replication"))
        if any(name.startswith(COUNTERS) for name in module.imports) and not module.name.startswith(may)
    }
    assert found == set()


def test_techniques_do_not_import_each_other() -> None:
    for module in modules("replication"):
        for name in module.imports:
            parts = name.split(".")
            assert parts[0] != "replication" or parts[1] == module.name.split("/")[1], module.name
