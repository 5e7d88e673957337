"""Checks of a grammar's rules: no cycles, no bombs, and slots that are filled once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgespeech.errors import bad
from edgespeech.text.grammar_nodes import Alternative, Choice, Key, Node, Ref, Seq, Word

MAX_DEPTH = 60
"""Levels of rules, brackets and sequences; the grammars here have up to 16."""
MAX_WORDS = 500_000
"""Words and alternatives of a rule, with every rule counted as often as it is used; here there are up to 120,000."""

Rules = Mapping[Key, tuple[Alternative, ...]]


def check_size(rules: Rules) -> None:
    """Refuse cycles, and rules that a few lines make so deep or large that no memory holds their sentences.

    Raises:
        EdgeSpeechError: there is one.
    """
    known: dict[Key, tuple[int, int]] = {}
    for first in rules:
        chain = {first: _used(rules, first)}  # a loop, not recursion: the chain may be of any length
        while chain:
            key = next(reversed(chain))
            where = f"{key[0]}.yaml: rule {key[1]}"
            if (below := next((used for used in chain[key] if used not in known), None)) is not None:
                if below in chain:
                    names = [*chain][[*chain].index(below) :]
                    raise bad(
                        f"{below[0]}.yaml: rule {below[1]}",
                        "rules",
                        " -> ".join(name for _, name in [*names, below]),
                        "no cycle",
                    )
                chain[below] = _used(rules, below)
                continue
            sizes = [_size(one.node, known) for one in rules[key]]
            depth, words = 1 + max(depth for depth, _ in sizes), len(sizes) + sum(words for _, words in sizes)
            if depth > MAX_DEPTH:
                raise bad(where, "depth", depth, f"at most {MAX_DEPTH} levels of rules and brackets")
            if words > MAX_WORDS:
                raise bad(
                    where, "size", words, f"at most {MAX_WORDS} words, with all that its rules stand for"
                )
            known[key] = depth, words
            del chain[key]


def _used(rules: Rules, key: Key) -> Iterator[Key]:
    """The rules that a rule's patterns name."""
    nodes = [one.node for one in rules[key]]
    while nodes:
        node = nodes.pop()
        if isinstance(node, Ref):
            yield node.key
        elif not isinstance(node, Word):
            nodes += node.parts if isinstance(node, Seq) else node.options


def _size(node: Node, known: Mapping[Key, tuple[int, int]]) -> tuple[int, int]:
    """Depth and words of a node; its pattern has few brackets, see `grammar_rules`."""
    if isinstance(node, Word):
        return 0, 1
    if isinstance(node, Ref):
        return known[node.key]
    sizes = [_size(part, known) for part in (node.parts if isinstance(node, Seq) else node.options)]
    return 1 + max((depth for depth, _ in sizes), default=0), sum(words for _, words in sizes)


def check_slots(rules: Rules) -> None:
    """Refuse slots inside slots and slots that one sentence could fill twice, in rules that passed `check_size`.

    Raises:
        EdgeSpeechError: there is one.
    """
    known: dict[Key, frozenset[str]] = {}

    def of_rule(key: Key) -> frozenset[str]:
        if key not in known:
            known[key] = frozenset().union(*(of_node(a.node, key) for a in rules[key]))
        return known[key]

    def of_node(node: Node, key: Key) -> frozenset[str]:
        where = f"{key[0]}.yaml: rule {key[1]}"
        if isinstance(node, Word):
            return frozenset()
        if isinstance(node, Ref):
            inner = of_rule(node.key)
            if node.slot is None:
                return inner
            if inner:
                raise bad(where, f"slot {node.slot}", sorted(inner), "no slots inside a slot")
            return frozenset([node.slot])
        if isinstance(node, Choice):
            return frozenset().union(*(of_node(option, key) for option in node.options))
        found: set[str] = set()
        for part in node.parts:
            inner = of_node(part, key)
            if inner & found:
                raise bad(where, "pattern", sorted(inner & found), "each slot at most once in a sentence")
            found |= inner
        return frozenset(found)

    for key in rules:
        of_rule(key)
