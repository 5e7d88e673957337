"""The first screen of the README and of the page: three findings and one small table, rendered from records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgespeech.contracts import Difference
from edgespeech.records.records import Record, load_rows
from edgespeech.report.compare import Paired, Pairs, acceptance, pair, records_comparable, word_errors
from edgespeech.report.table import (
    NETWORK,
    NORMALISER,
    USELESS_WER,
    Cell,
    Table,
    has_latency,
    several,
    uses_network,
    wer,
)
from edgespeech.report.tables import NULL, latest
from edgespeech.report.text import NONE, figure, number

CORPUS = "coffee_dev"
"""The corpus of the first screen: real recordings of the requests that the device's model is made for."""
OPEN_CORPUS = "commonvoice_en"
"""The corpus that stands for speech about anything."""
DEVICE, CLOUD = "edge-packed", "cloud-whisper-base"
"""The two systems that the findings compare."""
MOST_ROWS = 7
HEAD = (
    "System",
    f"WER {NORMALISER} [95 %]",
    "Understood",
    f"Wait P50 / P90 ({NETWORK})",
    "Cut off",
    "Model",
    "Sent / request",
)


def front_records(records: Sequence[Record], corpus: str = CORPUS) -> list[Record]:
    """What the first screen shows: runs on clean speech without context, the most accurate ones, best first."""
    found = [
        record
        for record in latest(records)
        if record.corpus.name == corpus
        and record.condition.clean
        and not record.condition.context
        and record.status == "passed"
        and record.system.name != NULL
        and NORMALISER in record.accuracy
    ]
    return sorted(found, key=lambda record: record.accuracy[NORMALISER].wer.value)[:MOST_ROWS]


def machines_remark(shown: Sequence[Record]) -> str | None:
    """Which systems were measured on which processor; None where there is only one."""
    machines: dict[str, list[str]] = {}
    for record in shown:
        machines.setdefault(record.provenance.cpu_model, []).append(record.system.name)
    groups = "; ".join(f"{', '.join(names)} on {cpu}" for cpu, names in sorted(machines.items()))
    return groups if len(machines) > 1 else None


def front_table(records: Sequence[Record]) -> Table:
    """At most seven systems on one corpus: accuracy, latency with its early cut-offs, bytes kept and sent."""
    shown = front_records(records)
    rows = []
    for record in shown:
        network = record.networks.get(NETWORK)
        latency = network.latency if network is not None and has_latency(record) else {}
        rows.append(
            (
                Cell(record.system.name, record),
                Cell(wer(record, NORMALISER)),
                Cell(figure(record.acceptance, "percent", interval=False)),
                Cell(several(latency, ("upl_p50", "upl_p90"), "s") if latency else NONE),
                Cell(figure(latency.get("cut_off_rate"), "percent", interval=False)),
                Cell(number(record.system.model_bytes, "bytes")),
                Cell(figure(network.up_bytes if network else None, "bytes", interval=False)),
            )
        )
    return Table(
        name="front",
        title=f"{CORPUS}: accuracy, latency and size",
        head=HEAD,
        rows=tuple(rows),
        caption=(" ".join(_remarks(shown)),) if shown else (),
    )


def findings(records_dir: Path, records: Sequence[Record]) -> list[str]:
    """Three sentences, each a finding with its numbers; fewer where their records are missing.

    Args:
        records_dir: where the rows lie, for differences paired by utterance.
        records: all records.

    Returns:
        Markdown; the words between `**` name the finding.

    Raises:
        EdgeSpeechError: rows are not right, or the installed normaliser is not the records'.
    """
    by_corpus = {corpus: _by_system(records, corpus) for corpus in (CORPUS, OPEN_CORPUS)}
    home, abroad = by_corpus[CORPUS], by_corpus[OPEN_CORPUS]
    found = []
    if DEVICE in home:
        found.append(_in_its_domain(home[DEVICE]))
    for runs, sentence in ((home, _against_the_cloud), (abroad, _open_speech)):
        if DEVICE in runs and CLOUD in runs:
            pairs = _pairs(records_dir, runs[DEVICE], runs[CLOUD])
            if len(pairs) > 1:
                found.append(sentence(runs[DEVICE], runs[CLOUD], pairs))
    return found


def findings_markdown(records_dir: Path, records: Sequence[Record]) -> str:
    """The findings as a list, for the README."""
    lines = [f"* {text}\n" for text in findings(records_dir, records)]
    return "".join(lines) or "No record yet.\n"


def _in_its_domain(device: Record) -> str:
    size = number(device.system.model_bytes, "bytes")
    understood = ""
    if device.acceptance is not None:
        understood = f" and understands {figure(device.acceptance, 'percent')} of them completely"
    return (
        f"**In its domain the small model is useful.** `{DEVICE}`, {size} on disk, gets "
        f"{wer(device, NORMALISER)} of the words wrong on {device.corpus.n_utterances} spoken requests "
        f"({CORPUS}){understood}; nothing leaves the device."
        if device.accuracy[NORMALISER].wer.value <= USELESS_WER
        else f"**The small model is not useful in its domain.** `{DEVICE}`, {size} on disk, gets "
        f"{wer(device, NORMALISER)} of the words wrong ({CORPUS})."
    )


def _against_the_cloud(device: Record, cloud: Record, pairs: Pairs) -> str:
    words, commands = word_errors(pairs, NORMALISER), acceptance(pairs)
    sent = cloud.networks[NETWORK].up_bytes if NETWORK in cloud.networks else None
    times = cloud.system.model_bytes / max(device.system.model_bytes, 1)
    understood = ""
    if commands is not None:
        understood = f"; of requests not understood, {_difference(commands)}"
    return (
        f"**What the cloud costs.** `{CLOUD}` sends {figure(sent, 'bytes', interval=False)} a request to a model "
        f"{times:.0f} times as large and gets {number(words.b, 'percent')} of the words wrong: "
        f"{_difference(words)}{understood}."
    )


def _open_speech(device: Record, cloud: Record, pairs: Pairs) -> str:
    paired = word_errors(pairs, NORMALISER)
    title = "Where the small model fails" if paired.verdict is Difference.WORSE else "On open speech"
    return (
        f"**{title}.** On {device.corpus.n_utterances} sentences about anything ({OPEN_CORPUS}) it gets "
        f"{wer(device, NORMALISER)} of the words wrong, the cloud {wer(cloud, NORMALISER)}: {_difference(paired)}."
    )


def _difference(paired: Paired) -> str:
    """The difference of two error rates in points with its interval, from the device's side."""
    points = f"{100 * abs(paired.difference):.1f} points"
    ends = sorted((paired.low, paired.high) if paired.difference >= 0 else (-paired.low, -paired.high))
    interval = f"[{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"
    if paired.verdict is Difference.TIE:
        return f"no difference is shown ({points} {interval})"
    way = "fewer" if paired.verdict is Difference.BETTER else "more"
    return f"{points} {interval} {way} on the device"


def _pairs(records_dir: Path, device: Record, cloud: Record) -> Pairs:
    """The utterances of both; none where the records must not be compared."""
    if records_comparable(device, cloud, whole=False) is not None:
        return ()
    return pair(load_rows(records_dir, device), load_rows(records_dir, cloud))


def _by_system(records: Sequence[Record], corpus: str) -> dict[str, Record]:
    clean = [
        record
        for record in latest(records)
        if record.corpus.name == corpus
        and (record.condition.clean, record.condition.context) == (True, False)
        and record.status == "passed"
        and NORMALISER in record.accuracy
    ]
    return {record.system.name: record for record in clean}


def _remarks(shown: Sequence[Record]) -> list[str]:
    """What one must know to read the table: the columns, the corpus's notes, the machines."""
    sizes = sorted({record.corpus.n_utterances for record in shown})
    remarks = [
        f"{CORPUS}, {' or '.join(map(str, sizes))} utterances.",
        "Understood: intent and every slot right.",
        f"Wait: from the end of speech to the result that is used, over {NETWORK} (user-perceived latency).",
        "Cut off: ended before the end of speech; without a figure, the end of the file ended the utterance.",
        *(f"{note[:1].upper()}{note[1:]}." for note in sorted({n for r in shown for n in r.corpus.notes})),
    ]
    if (machines := machines_remark(shown)) is not None:
        remarks.append(f"Do not compare waits between machines: {machines}.")
    if any(uses_network(record) for record in shown):
        speedups = ", ".join(f"{value:g}" for value in sorted({record.cloud_speedup for record in shown}))
        remarks.append(f"Server compute is measured and divided by {speedups}.")
    return remarks


Text = Callable[[Path, Sequence[Record]], str]
TEXTS: dict[str, Text] = {"findings": findings_markdown}
"""The rendered texts that a page can include, by the name in its `<!-- text:NAME -->` line."""
