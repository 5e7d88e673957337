"""The only reader of YAML files: safe against hostile files, with one-line errors.

A few hundred bytes of aliases can expand to terabytes, deep nesting can exhaust the stack, long integers cost CPU time,
and a duplicate key hides a value. All of these are errors.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from edgespeech.core.files import is_text, regular
from edgespeech.errors import EdgeSpeechError

MAX_BYTES = 16 << 20
MAX_DEPTH = 50
MAX_NODES = 2_000_000
"""Nodes of a document, with every alias counted as often as it is used."""
_MAX_DIGITS = 100
_INTEGER, _FLOAT, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "merge"))
_TWO_NUMBERS = re.compile(r"^[-+]?0[0-7_]+$|:")
"""Octal (`010` is 8) and sexagesimal numbers (`1:30` is 90), which YAML 1.2 has no more."""


class Limits:
    """A mix-in for PyYAML's loaders that refuses deep nesting, alias bombs and cycles."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node; deeper than `MAX_DEPTH` is an error."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {MAX_DEPTH}")
        node = super().compose_node(parent, index)  # type: ignore[misc]  # of the loader behind it
        if isinstance(node, ScalarNode) and not is_text(node.value):
            raise yaml.YAMLError(f"half a character (a lone surrogate), line {node.start_mark.line + 1}")
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        """The document, if its size is within the limit."""
        node = super().get_single_node()  # type: ignore[misc]  # as above
        if node is not None and _size(node, {}, set()) > MAX_NODES:
            raise yaml.YAMLError(f"its aliases expand to more than {MAX_NODES} values")
        return node


class LimitedLoader(Limits, yaml.SafeLoader):
    """PyYAML's safe loader with limits; a duplicate key is an error."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> Any:
        """A mapping without duplicate keys."""
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                # As it will be looked up: `1` and `0x1` are one key, and so are `no` and `off`.
                name = key.value if key.tag == _MERGE else self.construct_object(key)
                if name in seen:
                    raise yaml.YAMLError(f"key {key.value!r} is duplicate, line {key.start_mark.line + 1}")
                seen.add(name)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: ScalarNode) -> Any:
        """An integer of limited length, written in a way that every reader takes for the same number."""
        line = node.start_mark.line + 1
        if len(node.value) > _MAX_DIGITS:
            raise yaml.YAMLError(f"an integer of {len(node.value)} digits, line {line}")
        if _TWO_NUMBERS.search(node.value):
            raise yaml.YAMLError(
                f"{node.value!r} is another number in YAML 1.1 than in 1.2 or JSON, line {line}; quote text, and write "
                "numbers without a leading 0 or colons"
            )
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node: ScalarNode) -> Any:
        """A number that is not of base 60."""
        if ":" in node.value:
            raise yaml.YAMLError(f"{node.value!r} has a colon, line {node.start_mark.line + 1}; quote text")
        return super().construct_yaml_float(node)


LimitedLoader.add_constructor(_INTEGER, LimitedLoader.construct_yaml_int)
LimitedLoader.add_constructor(_FLOAT, LimitedLoader.construct_yaml_float)


def _size(node: Node, known: dict[int, int], above: set[int]) -> int:
    """How many values a node expands to."""
    if id(node) in above:
        raise yaml.YAMLError(f"an alias of its own parent, line {node.start_mark.line + 1}")
    if id(node) not in known:
        above.add(id(node))
        below: list[Node] = []
        if isinstance(node, MappingNode):
            below = [part for pair in node.value for part in pair]
        elif not isinstance(node, ScalarNode):
            below = node.value
        known[id(node)] = 1 + sum(_size(part, known, above) for part in below)
        above.remove(id(node))
    return known[id(node)]


def load_yaml(path: Path, *, loader: Any = None, name: str | None = None) -> Any:
    """The content of a YAML file.

    Args:
        path: the file.
        loader: a PyYAML loader; by default `LimitedLoader`.
        name: what to call it in messages; its path by default.

    Raises:
        OSError: it cannot be read; the caller knows what it is for.
        EdgeSpeechError: it is too large, not UTF-8, not YAML, or beyond a limit.
    """
    where = name or str(path)
    with regular(path).open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise EdgeSpeechError(f"{where}: not YAML: larger than {MAX_BYTES} bytes")
    return parse_yaml(where, data, loader or LimitedLoader)


def parse_yaml(where: str, data: bytes, loader: Any = LimitedLoader) -> Any:
    """The content of a YAML file's bytes; `where` names it in errors.

    Raises:
        EdgeSpeechError: as `load_yaml`.
    """
    try:
        return yaml.load(data.decode("utf-8-sig"), loader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError, KeyError) as error:
        told = " ".join(str(error).split())
        raise EdgeSpeechError(f"{where}: not YAML: {told[:300]}") from error
