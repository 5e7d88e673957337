"""Discovery of recognisers: every entry of the `edgespeech.recognisers` group, built-in or third-party.

An entry's value is either one Recogniser class or a package, each of whose modules may define Recogniser classes.
This project registers its own package `edgespeech.systems` once; a new file in there needs no other edit.
"""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from edgespeech.contracts import RECOGNISER_GROUP, Recogniser
from edgespeech.errors import EdgeSpeechError, bad


def _classes_in(module: ModuleType) -> list[type[Recogniser]]:
    return [
        item
        for item in vars(module).values()
        if inspect.isclass(item)
        and issubclass(item, Recogniser)
        and not inspect.isabstract(item)
        and item.__module__ == module.__name__
        and hasattr(item, "name")
    ]


def _classes_of(entry: str, value: Any) -> list[type[Recogniser]]:
    if inspect.isclass(value) and issubclass(value, Recogniser):
        return [value]
    if inspect.ismodule(value):
        found = _classes_in(value)
        for info in pkgutil.iter_modules(getattr(value, "__path__", ())):
            if not info.name.startswith("_"):
                found += _classes_in(import_module(f"{value.__name__}.{info.name}"))
        return found
    raise bad(
        f"entry point {entry} of {RECOGNISER_GROUP}",
        "value",
        value,
        "a Recogniser class or a package of them",
    )


def recognisers() -> dict[str, type[Recogniser]]:
    """Every recogniser by its name, sorted.

    Raises:
        EdgeSpeechError: an entry point cannot be imported or is not a recogniser, or two recognisers share a name. So a
            failing import never makes a recogniser disappear from the tables.
    """
    found: dict[str, type[Recogniser]] = {}
    for entry in entry_points(group=RECOGNISER_GROUP):
        try:
            value = entry.load()
        except Exception as error:
            raise EdgeSpeechError(
                f"entry point {entry.name} = {entry.value} of {RECOGNISER_GROUP}: {error}"
            ) from error
        for item in _classes_of(entry.name, value):
            if found.setdefault(item.name, item) is not item:
                raise EdgeSpeechError(
                    f"two recognisers are named {item.name!r}: {found[item.name].__module__} and {item.__module__}"
                )
    return dict(sorted(found.items()))


def find_recogniser(name: str, **options: Any) -> Recogniser:
    """The recogniser with this name, constructed with these options.

    Raises:
        EdgeSpeechError: there is none with this name, or it has no such option.
    """
    known = recognisers()
    if name not in known:
        raise bad("--system", "name", name, "one of " + ", ".join(known))
    accepted = inspect.signature(known[name]).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values()):
        for option in options.keys() - accepted.keys():
            expected = f"one of {', '.join(accepted)}" if accepted else f"none: {name} has no options"
            raise bad(f"--option for {name}", "name", option, expected)
    try:
        return known[name](**options)
    except TypeError as error:
        raise EdgeSpeechError(f"--option for {name}: {error}") from error
