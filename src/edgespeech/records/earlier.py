"""Reading of page records from before there was a schema, converted to the present schema.

The files are not changed. Their rows have a `claim`, a `detail` in words, one number `measured` (for some comparisons
the judged end of the interval) and `n`. Intervals are in `compared` if two arms were compared, else in the words, as
`95 % LOW to HIGH`, where they are rounded. Missing information stays empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from edgespeech.errors import EdgeSpeechError
from edgespeech.records.claims import Claim, Claims

DATA_ALONE = {
    "az_execution.accelerator", "az_execution.truth", "compression.arms", "endpointing.dual_wer", "lattices.order",
    "qat.arms", "qat.sensitivity", "sparsification.arms", "sparsification.picture",
}  # fmt: skip
"""Former claims that are now rows of data: counts of a table's rows, and facts by construction (now in tests)."""
JUDGED_END = {
    "compression.commands": "low", "compression.tie": "low", "lattices.n_best": "high",
    "lattices.second_pass_better": "high", "lattices.second_pass_n_best": "high",
}  # fmt: skip
"""Claims whose `measured` was an end of the interval, which is exact there and rounded in the words."""
_END = r"(-?(?:[\d.]+(?:e-?\d+)?|inf))"
_INTERVAL = re.compile(rf"95 % {_END} to {_END}")
_POINTS = re.compile(rf"{_END} points(?:, 95 %| |$)")
_COLUMNS = re.compile(
    rf"[:;,]?\s*(?:difference )?(?:{_END} points)?(?:, )?(?:95 % {_END} to {_END}(?: points)?)?"
    r"(?: against the device alone)?(?:: (?:better|worse|tie))?$"
)
"""The end of a detail for which tables have columns: a difference, its interval and its verdict."""
_ACCEPTED = re.compile(rf"{_END} % accepted against {_END} %")
_SEEDS = re.compile(r"(\d+) seed\(s\)")
_OWN = {"claim", "detail", "measured", "n", "skipped", "low"}


_RENAMED = {"treatment": "compressor", "heads": "networks", "contestants": "peers"}
"""Keys of configurations and rows in earlier records, and their names now."""


def current_names(value: Any) -> Any:
    """A record's configuration or rows under the present names of renamed keys, at any depth."""
    if isinstance(value, Mapping):
        return {_RENAMED.get(key, key): current_names(item) for key, item in value.items()}
    return [current_names(item) for item in value] if isinstance(value, list) else value


def converted(content: Mapping[str, Any], technique: str, claims: Claims, where: str) -> dict[str, Any]:
    """Convert an earlier record to the fields of `edgespeech.records.pages.PageRecord`.

    Args:
        content: of its file.
        technique: its folder's name.
        claims: the technique's.
        where: the file, for messages.

    Raises:
        EdgeSpeechError: a field is missing, or a measured row's claim is not known.
    """
    known = {claim.id for claim in claims}
    rows: list[dict[str, Any]] = []
    not_run: list[dict[str, str]] = []
    try:
        for row in content["rows"]:
            name, detail = row["claim"], row.get("detail", "")
            data = {key: value for key, value in row.items() if key not in _OWN}
            if "skipped" in row and name not in known:
                not_run.append({"part": ", ".join(filter(None, (name, detail))), "reason": row["skipped"]})
            elif name in DATA_ALONE:
                rows.append({"data": data})
            else:
                rows += _rows(row, name, claims, data)
        return {
            "schema_version": 0,
            "technique": technique,
            "created": content["created"],
            "profile": content["config"].get("profile"),
            "utterances": None,
            "code_sha256": None,
            "manifests": {},
            "models": {},
            "commit": content["commit"],
            "dirty": content["dirty"],
            "machine": {key: content[key] for key in ("cpu_model", "cores", "python")},
            "versions": content["versions"],
            "config": content["config"],
            "rows": rows,
            "not_run": not_run,
        }
    except KeyError as error:
        raise EdgeSpeechError(f"{where}: {error.args[0]} is missing, expected a record of a page") from error


def _rows(
    row: Mapping[str, Any], name: str, claims: Claims, data: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The row of a claim; a change of the oracle error rate belongs to two claims, in points and relative."""
    yield {"claim": name, "measured": _measured(row, claims[name]), "data": data}
    if name == "lattices.oracle" and "skipped" not in row:
        gain = "lattices.oracle_gain"
        yield {"claim": gain, "measured": _measured(row, claims[gain]), "data": {}}


def _measured(row: Mapping[str, Any], claim: Claim) -> dict[str, Any]:
    """The measured value in an earlier row, in the claim's unit."""
    detail = " ".join(row.get("detail", "").split())
    found: dict[str, Any] = {"condition": _condition(detail), "n": row.get("n", 0)}
    if "skipped" in row:
        return found | {"not_run": row["skipped"]}
    if (seeds := _SEEDS.search(detail)) is not None:
        found["seeds"] = int(seeds[1])
    points, interval = claim.unit == "points", _INTERVAL.search(detail)
    if (compared := row.get("compared")) is not None:
        if not points:
            return found | {"value": compared["relative"]}
        return found | {"value": compared["difference"], "low": compared["low"], "high": compared["high"]}
    found["value"] = row["measured"]
    in_points = " points" in detail
    if points and (accepted := _ACCEPTED.search(detail)) is not None:
        found["value"] = (float(accepted[2]) - float(accepted[1])) / 100
    elif points and (difference := _POINTS.search(detail)) is not None:
        found["value"] = float(difference[1]) / 100
    if interval is not None and (points or not in_points):  # an interval in points is of no relative figure
        scale = 100 if in_points else 1
        found |= {"low": float(interval[1]) / scale, "high": float(interval[2]) / scale}
        if (end := JUDGED_END.get(claim.id)) is not None:
            found[end] = row["measured"]
    return found


def _condition(detail: str) -> str:
    """The detail without the parts that have their own columns."""
    return re.sub(r",\s*$", "", _SEEDS.sub("", _COLUMNS.sub("", detail))).strip()
