"""The one exception type that users see: what is wrong, where, and what was expected."""

from __future__ import annotations

_LONGEST = 120
"""Maximum number of characters of a value in a message."""


class EdgeSpeechError(Exception):
    """An error in user input (file, field, value), phrased so that a person can act on it.

    The command line prints the message alone and exits with status 2. Any other exception is a bug and is shown with
    its traceback.
    """


class InterruptedRunError(EdgeSpeechError):
    """A person interrupted a run; the message says which results were saved. Exit status 130."""


def bad(where: str, field: str, value: object, expected: str) -> EdgeSpeechError:
    """An error that names the file or object, the field, the value and what was expected.

    Args:
        where: the file, with a line number where there is one, or the object.
        field: the field, column or option.
        value: the value found; a long one is shortened in the middle, since the end of a path is most informative.
        expected: which values are accepted.
    """
    shown = repr(value)
    if len(shown) > _LONGEST:
        shown = f"{shown[: _LONGEST // 4]}...{shown[-_LONGEST * 3 // 4 :]}"
    return EdgeSpeechError(f"{where}: {field} is {shown}, expected {expected}")
