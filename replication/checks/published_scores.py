"""Scoring files in the format of fbai-speech's biasing benchmark (is21_deep_bias), with its number of digits."""

from __future__ import annotations

import json
from pathlib import Path

from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.metrics.bias import bias_totals
from edgespeech.metrics.wer import ErrorCounts


def score_lines(references: Path, hypotheses: Path) -> list[str]:
    """The three score lines (WER, U-WER, B-WER, error rates in percent) of a hypothesis file.

    Args:
        references: tab-separated lines of id, words, rare words, bias list (the last two as JSON lists).
        hypotheses: tab-separated lines of id and words; an id may have no words.

    Raises:
        EdgeSpeechError: a file cannot be read, a line is not of that form, or an id has no hypothesis.
    """
    refs, hyps = _columns(references), _columns(hypotheses)
    lists = []
    for name, fields in refs.items():
        if name not in hyps:
            raise bad(str(hypotheses), "id", name, "a hypothesis for every reference")
        try:
            lists.append(set(json.loads(fields[2])))
        except (IndexError, ValueError) as error:
            raise bad(str(references), f"rare words of {name}", fields[2:3], "a JSON list") from error
    counts = bias_totals(
        [fields[1] for fields in refs.values()],
        [hyps[name][1] if len(hyps[name]) > 1 else "" for name in refs],
        lists,
    )
    lines = []
    for title, part in (("WER", "all"), ("U-WER", "unbiased"), ("B-WER", "biased")):
        found: ErrorCounts = getattr(counts, part)
        lines.append(
            f"{title}: error_rate={100.0 * found.errors / found.ref_words}, ref_words={found.ref_words}, "
            f"subs={found.substitutions}, ins={found.insertions}, dels={found.deletions}"
        )
    return lines


def _columns(path: Path) -> dict[str, list[str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EdgeSpeechError(f"{path}: cannot be read: {error.strerror}") from error
    return {fields[0]: fields for fields in (line.strip().split("\t") for line in text.splitlines())}
