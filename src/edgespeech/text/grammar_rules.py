"""Reading and checking grammar files: YAML, the pattern notation, and the resulting rules.

A grammar file holds:

- `about`: one sentence on what it is for.
- `language`: of its sentences, `en` by default, or `es`; a file and what it includes have the same.
- `include`: other grammar files (by name, from the same folder) whose rules may be used; their intents join
  too.
- `intents`: intent name to `{rule, weight}`.
- `rules`: rule name to one of
    - a list of alternatives, each a pattern or `{say: pattern, weight: 2, value: ...}`;
    - a mapping from canonical values to lists of synonyms (`large: [big]`); the values are equally likely,
      and a value with synonyms stands for itself half of the time;
    - `{range: [first, last], step: 1, kind: cardinal}` (or `ordinal`): numbers, said in words, with their
      digits as the value.
- `spellings`: a word (or words) to other spellings of it, which are understood but never generated.

A pattern is made of words (lower case, numbers spelled out), `(a | b c)`, `[optional]`, `<rule>` and `{slot}`
or `{slot=rule}`. A slot takes its rule's value: the alternative's `value` (in which `<rule>` stands for the
value of that part) or, without one, the values of its parts joined by spaces. A rule is looked up in its own
file, then in the included files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from edgespeech.core.files import regular
from edgespeech.core.yaml_files import Limits, parse_yaml
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.text.grammar_checks import check_size, check_slots
from edgespeech.text.grammar_nodes import Alternative, Choice, Key, Node, Ref, RuleSet, Seq, Word
from edgespeech.text.spoken import canonical, number_words, ordinal_words


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Weight = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False)]
"""Within these no share of a sum is 0, of which there is no logarithm."""


class _AlternativeSpec(_Strict):
    say: str
    weight: Weight = 1.0
    value: str | None = None


class _RangeSpec(_Strict):
    range: tuple[int, int]
    step: int = Field(default=1, gt=0)
    kind: Literal["cardinal", "ordinal"] = "cardinal"

    @property
    def numbers(self) -> Sequence[int]:
        return range(self.range[0], self.range[1] + 1, self.step)


class _IntentSpec(_Strict):
    rule: str
    weight: Weight = 1.0


_MOST_NUMBERS = 100_000
"""Numbers in all ranges of a file."""


def _alternatives(raw: Any) -> Any:
    """The three forms of a rule as a list of alternatives; pydantic refuses anything else."""
    if isinstance(raw, dict) and "range" in raw:
        spec = _RangeSpec.model_validate(raw)
        say = ordinal_words if spec.kind == "ordinal" else number_words
        return [{"say": say(n), "value": str(n)} for n in spec.numbers]
    if isinstance(raw, dict):
        found: list[Any] = []
        for value, synonyms in raw.items():
            if not isinstance(synonyms, list):
                return {value: synonyms}
            share = 0.5 if synonyms else 1.0
            found.append({"say": value, "value": value, "weight": share})
            found += [{"say": s, "value": value, "weight": (1 - share) / len(synonyms)} for s in synonyms]
        return found
    if isinstance(raw, list):
        return [{"say": item} if isinstance(item, str) else item for item in raw]
    return raw


_RuleSpec = Annotated[list[_AlternativeSpec], BeforeValidator(_alternatives), Field(min_length=1)]


class _GrammarSpec(_Strict):
    about: str
    language: Literal["en", "es"] = "en"
    include: list[str] = []
    intents: dict[str, _IntentSpec] = {}
    rules: dict[str, _RuleSpec] = {}
    spellings: dict[str, list[str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _few_numbers(cls, raw: Any) -> Any:
        """Refuse ranges that take a minute to spell out; what is wrong with one otherwise is left to its rule."""
        rules = raw.get("rules") if isinstance(raw, dict) else None
        total = 0
        if isinstance(raw, dict) and raw.get("language", "en") != "en":
            for name, rule in rules.items() if isinstance(rules, dict) else ():
                if isinstance(rule, dict) and "range" in rule:
                    raise ValueError(f"rule {name}: range spells numbers in English, expected words")
        for rule in rules.values() if isinstance(rules, dict) else ():
            with suppress(ValidationError):
                if isinstance(rule, dict) and "range" in rule:
                    first, last = (spec := _RangeSpec.model_validate(rule)).range
                    total += max(0, (last - first) // spec.step + 1)
        if total > _MOST_NUMBERS:
            raise ValueError(
                f"the ranges of its rules have {total} numbers, expected at most {_MOST_NUMBERS}"
            )
        return raw


class _Loader(Limits, yaml.BaseLoader):
    """Every scalar is a string ("on", "no" and "8" are words here), and a repeated key is an error."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise bad(f"line {key_node.start_mark.line + 1}", "key", key, "a word")
        if key in found:
            raise bad(f"line {key_node.start_mark.line + 1}", "key", key, "each key once")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load_rules(path: Path) -> RuleSet:
    """Read a grammar file and its includes, and check them.

    Args:
        path: a `.yaml` file; includes are looked up beside it.

    Raises:
        EdgeSpeechError: a file is missing or not YAML; an unknown key; a weight that is not positive; a
            pattern that cannot be read; an unknown rule; a cycle of rules or of includes; a slot that could
            be filled twice; an empty rule; a grammar without intents. The message names file and rule.
    """
    specs: dict[str, _GrammarSpec] = {}
    digests: dict[str, str] = {}
    _read_file(path, specs, digests, ())
    rules: dict[Key, tuple[Alternative, ...]] = {}
    for file, spec in specs.items():
        for name, alternatives in spec.rules.items():
            rules[file, name] = _build_rule(specs, file, name, alternatives)
    total = sum(intent.weight for spec in specs.values() for intent in spec.intents.values())
    intents: dict[str, tuple[Key, float]] = {}
    for file, spec in specs.items():
        for intent, target in spec.intents.items():
            if intent in intents:
                raise bad(f"{file}.yaml", "intent", intent, f"a new name (see {intents[intent][0][0]}.yaml)")
            key = _resolve(specs, file, target.rule, f"intent {intent}")
            intents[intent] = (key, target.weight / total)
    if not intents:
        raise bad(path.name, "intents", {}, "at least one intent (the grammar is empty)")
    check_size(rules)
    check_slots(rules)
    spellings = {
        other: tuple(p for word in words.split() for p in canonical(word))
        for spec in specs.values()
        for words, others in spec.spellings.items()
        for other in others
    }
    language = specs[path.stem].language
    for file, spec in specs.items():
        if spec.language != language:
            raise bad(
                f"{file}.yaml", "language", spec.language, f"{language}, as {path.name}, which includes it"
            )
    joined = "".join(f"{file} {digests[file]}\n" for file in sorted(digests))
    return RuleSet(rules, intents, spellings, hashlib.sha256(joined.encode()).hexdigest(), language)


def _read_file(
    path: Path, specs: dict[str, _GrammarSpec], digests: dict[str, str], chain: tuple[str, ...]
) -> None:
    file = path.stem
    if file in chain:
        raise bad(f"{chain[-1]}.yaml", "include", " -> ".join([*chain, file]), "no cycle")
    if file in specs:
        return
    try:
        data = regular(path).read_bytes()
    except OSError as error:
        where = f"{chain[-1]}.yaml" if chain else "grammar"
        raise bad(where, "include" if chain else "file", path.name, "a grammar file that exists") from error
    try:
        raw = parse_yaml(path.name, data, _Loader)
        spec = _GrammarSpec.model_validate(raw if raw else {})
    except ValidationError as error:
        raise _explain(path.name, error) from error
    except EdgeSpeechError as error:
        told = " ".join(str(error).split()).removeprefix(f"{path.name}: ")
        raise EdgeSpeechError(f"{path.name}: {told}") from error
    specs[file] = spec
    digests[file] = hashlib.sha256(data).hexdigest()
    for name in spec.include:
        if not _NAME.fullmatch(name):
            raise bad(path.name, "include", name, "the name of a grammar in the same folder")
        _read_file(path.with_name(f"{name}.yaml"), specs, digests, (*chain, file))


def _explain(file: str, error: ValidationError) -> EdgeSpeechError:
    first = error.errors()[0]
    loc = [str(part) for part in first["loc"]]
    where, fields = file, loc
    if loc[:1] == ["rules"] and len(loc) > 1:
        where, fields = f"{file}: rule {loc[1]}", loc[2:] or ["alternatives"]
    field = ".".join(fields) or "content"
    if first["type"] == "extra_forbidden":
        return bad(where, "key", field, "a known key (see edgespeech.text.grammar_rules)")
    return bad(where, field, first["input"], first["msg"])


def _resolve(specs: Mapping[str, _GrammarSpec], file: str, name: str, where: str) -> Key:
    """The file that `name` comes from: `file` itself, else the first include, depth first, that has it."""
    pending, seen = [file], set[str]()
    while pending:
        current = pending.pop(0)
        if name in specs[current].rules:
            return current, name
        seen.add(current)
        pending = [f for f in specs[current].include if f not in seen] + pending
    raise bad(f"{file}.yaml: {where}", "rule name", name, "a rule of this file or of its includes")


_NAME = re.compile(r"[\w-]+")
_MAX_BRACKETS = 30
"""Of a pattern, within each other."""
_TOKENS = re.compile(r"\s*(?:(<[\w-]+>)|(\{\w+(?:=[\w-]+)?\})|([()\[\]|])|([a-záéíñóúü]+(?:'[a-z]+)*)|(\S))")


def _build_rule(
    specs: Mapping[str, _GrammarSpec], file: str, name: str, alternatives: list[_AlternativeSpec]
) -> tuple[Alternative, ...]:
    total = sum(a.weight for a in alternatives)
    built = []
    for spec in alternatives:
        pattern = _Pattern(specs, file, name, spec.say)
        node = pattern.read()
        wanted = re.findall(r"<([\w-]+)>", spec.value or "")
        for part in wanted:
            if pattern.refs.count(part) < wanted.count(part):
                raise bad(f"{file}.yaml: rule {name}", "value", spec.value, f"only parts of {spec.say!r}")
        built.append(Alternative(spec.weight / total, node, spec.value))
    return tuple(built)


class _Pattern:
    """A recursive-descent reader of one pattern."""

    def __init__(self, specs: Mapping[str, _GrammarSpec], file: str, rule: str, text: str) -> None:
        self._specs, self._file, self._rule, self._text = specs, file, rule, text
        self._tokens = [m.group().strip() for m in _TOKENS.finditer(text) if m.group().strip()]
        self._at = self._open = 0
        self.refs: list[str] = []

    def read(self) -> Node:
        node = self._choice()
        if self._at < len(self._tokens):
            raise self._error(f"unexpected {self._tokens[self._at]!r}")
        return node

    def _error(self, problem: str) -> EdgeSpeechError:
        expected = f"words in lower case, ( | ), [ ], <rule>, {{slot}}; {problem}"
        return bad(f"{self._file}.yaml: rule {self._rule}", "pattern", self._text, expected)

    def _choice(self) -> Node:
        options = [self._sequence()]
        while self._at < len(self._tokens) and self._tokens[self._at] == "|":
            self._at += 1
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._at < len(self._tokens) and self._tokens[self._at] not in ("|", ")", "]"):
            parts.append(self._part())
        return parts[0] if len(parts) == 1 else Seq(tuple(parts))

    def _part(self) -> Node:
        token = self._tokens[self._at]
        self._at += 1
        if token in ("(", "["):
            self._open += 1
            if self._open > _MAX_BRACKETS:
                raise self._error(f"more than {_MAX_BRACKETS} brackets within each other")
            inner = self._choice()
            self._open -= 1
            closing = ")" if token == "(" else "]"
            if self._at >= len(self._tokens) or self._tokens[self._at] != closing:
                raise self._error(f"{token!r} is not closed")
            self._at += 1
            return inner if token == "(" else Choice((inner, Seq(())))
        if token[0] == "<" and len(token) > 1:
            return self._ref(token[1:-1], None)
        if token[0] == "{" and len(token) > 1:
            slot, _, rule = token[1:-1].partition("=")
            return self._ref(rule or slot, slot)
        if token[0].islower():
            return Word(token)
        raise self._error(f"unexpected {token!r}")

    def _ref(self, name: str, slot: str | None) -> Ref:
        self.refs.append(name)
        return Ref(name, _resolve(self._specs, self._file, name, f"rule {self._rule}"), slot)
