"""Configuration files: the strict base class of their schemas, and pydantic's errors as one message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edgespeech.errors import EdgeSpeechError, bad


class Strict(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def words_in(value: object) -> Iterator[str]:
    """Every string in a configuration, names of fields among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from words_in(key)
            yield from words_in(one)
    elif isinstance(value, Sequence):
        for one in value:
            yield from words_in(one)


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], content: object, where: str) -> Model:
    """What a file holds, validated.

    Args:
        model: what it is validated by.
        content: of the file, as its YAML or JSON says.
        where: the file.

    Raises:
        EdgeSpeechError: an unknown key, a wrong type or a value out of range; see `explain`.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise explain(where, error) from error


def unique_keys(where: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """For `json.loads(object_pairs_hook=...)`: refuses a key that stands twice, since nobody can tell what is meant."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise bad(where, "key", next(key for key in keys if keys.count(key) > 1), "once")
        return found

    return once


def explain(where: str, error: ValidationError, known: tuple[str, ...] = ()) -> EdgeSpeechError:
    """Turn a pydantic error into one message with the file, the field, the value and the expectation.

    Args:
        where: the file, with a line number where there is one.
        error: from pydantic; the first problem is reported, the others are counted.
        known: the accepted keys, listed when a key is unknown.
    """
    problems = error.errors(include_url=False)
    first = problems[0]
    field = ".".join(str(part) for part in first["loc"]) or "content"
    if first["type"] == "missing":
        told = EdgeSpeechError(f"{where}: {field} is missing, expected a value")
    elif first["type"] == "extra_forbidden":
        expected = f"one of {', '.join(known)}" if known else "no such key"
        told = EdgeSpeechError(f"{where}: unknown key {field!r}, expected {expected}")
    elif first["type"] == "json_invalid":
        told = EdgeSpeechError(f"{where}: not JSON: {first['ctx']['error']}")
    else:
        expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        told = bad(where, field, first["input"], expected[:1].lower() + expected[1:])
    if len(problems) > 1:
        told = EdgeSpeechError(f"{told} (and {len(problems) - 1} more)")
    return told
