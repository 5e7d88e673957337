"""The one exception type that users see: what is wrong, where, and what was expected."""

from __future__ import annotations

_LONGEST = 120
"""Characters of a value that a message shows."""


class EdgeSpeechError(Exception):
    """A mistake in what was given to us (file, field, value), phrased so that a person can act on it.

    The command line prints the message alone and exits with status 2. Anything else that escapes is a bug and
    keeps its traceback.
    """


class InterruptedRunError(EdgeSpeechError):
    """A person stopped a run; the message says what is kept of it. Exit status 130."""


def bad(where: str, field: str, value: object, expected: str) -> EdgeSpeechError:
    """An error that names the file or object, the field, the value and what was expected.

    Args:
        where: the file, with a line number where there is one, or the object.
        field: the field, column or option.
        value: what was found there; a long one is shortened in its middle, since a path says most at its end.
        expected: what would have been accepted.
    """
    shown = repr(value)
    if len(shown) > _LONGEST:
        shown = f"{shown[: _LONGEST // 4]}...{shown[-_LONGEST * 3 // 4 :]}"
    return EdgeSpeechError(f"{where}: {field} is {shown}, expected {expected}")
