"""One run, from a recogniser's name to a record."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edgespeech.audio.io import check_channels
from edgespeech.contracts import Request
from edgespeech.corpora.corpora import Split, find_split
from edgespeech.corpora.fetch import is_manifest_file, manifest_of
from edgespeech.corpora.manifest import Manifest
from edgespeech.corpora.phrases import FROM_MANIFEST, PhraseList, load_list, load_phrases, phrases_for
from edgespeech.corpora.streams import Scene, load_stream_plan, scenes_of
from edgespeech.corpora.utterances import AudioCondition, Noise, spoken_of
from edgespeech.errors import EdgeSpeechError, InterruptedRunError, bad
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.draft import Draft, Settings
from edgespeech.harness.journal import SUFFIX, Journal
from edgespeech.harness.plan import Run, measuring_code_sha256
from edgespeech.harness.preflight import (
    check_audio,
    check_context,
    check_noise,
    check_out,
    check_request,
    check_stream,
    check_words,
)
from edgespeech.harness.score import score
from edgespeech.harness.workers import CannotLoadError, Done, Job, run_jobs
from edgespeech.harness.workers import Run as JobsRun
from edgespeech.records import provenance
from edgespeech.records.records import (
    Record,
    Row,
    forget_rows,
    load_record,
    load_rows,
    sha256_json,
    write_record,
)
from edgespeech.text.grammar import load_grammar

__all__ = ["Settings", "evaluate_run"]

_log = logging.getLogger(__name__)


def evaluate_run(
    run: Run,
    settings: Settings,
    *,
    options: Mapping[str, Any] | None = None,
    grammar: str | None = None,
    missing: str | None = None,
    out: Path | None = None,
    resume: bool = False,
) -> tuple[Record, list[Row]]:
    """Run one recogniser over one corpus under one condition.

    Args:
        run: recogniser, corpus and condition.
        settings: of the run.
        options: for the recogniser's constructor.
        grammar: for parsing hypotheses if the manifest has intents; by default the corpus's.
        missing: why the corpus is not available, if already known.
        out: folder of the record; it is checked before the run, and a journal of finished utterances is written there.
            None: nothing is written.
        resume: continue from the journal of an interrupted run in `out`.

    Returns:
        The record and its rows. Its status is `skipped` if something it needs is not available here, `failed` if the
        recogniser cannot be loaded; failures of single utterances are in the rows and the figures.

    Raises:
        EdgeSpeechError: the request is not valid (unknown system, network, noise, grammar; bad manifest; intents
            without a grammar; audio that differs from the manifest; a language that the recogniser does not support;
            `out` is not writable), which is checked before anything runs. Or the run was interrupted: the message says
            which results were saved.
    """
    options = dict(options or {})
    recogniser = find_recogniser(run.system, **options)
    links = settings.links()
    split = _split_of(run.corpus)
    draft = Draft(
        run=run,
        settings=settings,
        options=options,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        recogniser=recogniser,
        notes=() if split is None else split.notes,
        nonce=secrets.token_hex(8),
    )
    check_noise(run.snr_db)
    check_channels(settings.channels)
    missing = missing or recogniser.missing()
    if missing is not None:
        return _written(draft.unfinished("skipped", missing), [], out)
    manifest = manifest_of(run.corpus)
    chosen = manifest if run.subset is None else manifest.subset(run.subset, settings.seed)
    grammar = grammar or (split.grammar if split is not None else None)
    _check_grammar(grammar, chosen)
    bias = _bias(run, split)
    phrases = load_list(run.context) if run.context not in (None, FROM_MANIFEST) else PhraseList()
    check_stream(recogniser, chosen, run.stream, noise=run.noise)
    jobs = _jobs(run, chosen, settings, phrases, _scenes(run, manifest, chosen, settings.seed))
    check_request(recogniser, chosen, context=run.context is not None)
    remarks = check_context(recogniser, [job.request for job in jobs])
    draft = replace(draft, notes=(*draft.notes, *phrases.remarks, *remarks))
    check_words(chosen)
    stem = draft.unfinished("failed", "a name", chosen).stem
    if out is not None:
        check_out(out, f"{stem}.{'0' * 8}{SUFFIX}", len(jobs))
    check_audio(chosen, AudioCondition(channels=settings.channels))
    with _journal(out, stem.rpartition(".")[0], _key(run, settings, options, chosen), resume) as journal:
        if out is not None and journal is not None and journal.record is not None:
            if (path := out / f"{journal.record}.json").is_file():  # killed after its last line was written
                journal.remove()
                record = load_record(path)
                return record, load_rows(out, record)
            forget_rows(out, journal.record)
        _log.info("%d utterances of %s, manifest %s", len(jobs), manifest.name, manifest.sha256)
        load_before, start = provenance.load_average(), perf_counter()
        result = _run(draft, jobs, journal, f"{run.system} on {manifest.name}, {run.condition.label}")
        if isinstance(result, str):
            return _written(draft.unfinished("failed", result, chosen), [], out, journal)
        if journal is not None and journal.found:
            draft = replace(draft, notes=(*draft.notes, _resumed(len(journal.found), len(jobs))))
            done = journal.in_order([item.id for item in chosen.utterances], result.done)
            result = replace(result, done=done)
        scored = score(
            chosen.utterances,
            result,
            links,
            seed=settings.seed,
            cloud_speedup=settings.cloud_speedup,
            grammar=grammar,
            bias=bias,
        )
        record = draft.finished(chosen, scored, load_before, perf_counter() - start)
        return _written(record, scored.rows, out, journal)


@contextmanager
def _journal(out: Path | None, stem: str, key: str, resume: bool) -> Iterator[Journal | None]:
    """The journal of a run that writes a record; interrupting the run prints how much of it the journal has."""
    journal = None if out is None else Journal(out, stem, key, resume=resume)
    try:
        yield journal
    except KeyboardInterrupt:
        kept = (
            "nothing is saved"
            if journal is None
            else f"finished utterances are in {journal.path}: --resume continues"
        )
        raise InterruptedRunError(f"interrupted: {kept}") from None
    finally:
        if journal is not None:
            journal.close()


def _written(
    record: Record, rows: list[Row], out: Path | None, journal: Journal | None = None
) -> tuple[Record, list[Row]]:
    """The record and its rows, in their folder where there is one; the journal is of no more use then."""
    if out is not None:
        if journal is not None:
            journal.writes(record.stem)
        try:
            write_record(record, rows, out)
        except EdgeSpeechError as error:
            kept = (
                "" if journal is None else f"; finished utterances are in {journal.path}: --resume continues"
            )
            raise EdgeSpeechError(f"{error}{kept}") from error
    if journal is not None:
        journal.remove()
    return record, rows


def _run(draft: Draft, jobs: list[Job], journal: Journal | None, title: str) -> JobsRun | str:
    """Run the jobs that are left, each finished one kept in the journal; or why the recogniser cannot be loaded."""
    left = [job for job in jobs if journal is None or job.request.utterance_id not in journal.found]
    try:
        with _progress(title, len(left)) as advance:

            def on_done(done: Done) -> None:
                if journal is not None:
                    journal.add(done)
                advance(done)

            return run_jobs(
                type(draft.recogniser),
                draft.options,
                left,
                threads=draft.settings.threads,
                on_loaded=journal.loaded if journal is not None else lambda _: None,
                on_done=on_done,
            )
    except CannotLoadError as error:
        return str(error)


def _resumed(found: int, total: int) -> str:
    return f"{found} of {total} utterances are of an earlier process of this run; memory is of the last one"


def _key(run: Run, settings: Settings, options: Mapping[str, Any], manifest: Manifest) -> str:
    """Twelve hex digits of everything that determines the results."""
    return sha256_json(
        {
            "run": [run.system, run.condition.model_dump(), run.context, run.subset],
            "options": dict(options),
            "seed": settings.seed,
            "threads": settings.threads,
            "channels": settings.channels,
            "manifest": manifest.identity(),
            "code": measuring_code_sha256(),
        }
    )[:12]


def _scenes(run: Run, manifest: Manifest, chosen: Manifest, seed: int) -> dict[str, Scene] | None:
    """What surrounds each utterance; None: nothing but what its own file has."""
    if run.stream in (None, FROM_MANIFEST):
        return None
    return scenes_of(load_stream_plan(run.stream), manifest, chosen.utterances, seed)


def _jobs(
    run: Run,
    manifest: Manifest,
    settings: Settings,
    phrases: PhraseList,
    scenes: Mapping[str, Scene] | None,
) -> list[Job]:
    noise = None
    if run.noise is not None and run.snr_db is not None and run.snr_rule is not None:
        path, sha256 = _noise_file(run.noise)
        noise = Noise(path=path, snr_db=run.snr_db, rule=run.snr_rule, sha256=sha256)
    condition = AudioCondition(noise=noise, band=run.band, seed=settings.seed, channels=settings.channels)
    return [
        Job(
            spoken=spoken,
            request=Request(
                utterance_id=spoken.id,
                language=spoken.item.lang,
                context=phrases_for(run.context, phrases.phrases, spoken.item),
                context_weights=phrases.weights,
                seed=settings.seed,
            ),
            lead_in=run.stream is not None,
        )
        for spoken in spoken_of(manifest.hashed(), condition, scenes=scenes)
    ]


def _split_of(corpus: str) -> Split | None:
    """The split's description; None for a user's own manifest."""
    if is_manifest_file(corpus):
        return None
    found, name = find_split(corpus)
    return found.splits[name]


def _check_grammar(name: str | None, manifest: Manifest) -> None:
    """Check before a run what its scoring would refuse after it."""
    if name is not None:
        load_grammar(name)
    elif any(utterance.intent is not None for utterance in manifest.utterances):
        raise EdgeSpeechError(
            f"{manifest.name}: the manifest has intents, expected a grammar to parse hypotheses with (--grammar)"
        )


def _bias(run: Run, split: Split | None) -> tuple[str, ...]:
    """The phrases for B-WER and U-WER: the corpus's list, whether requests have it or not, else the run's."""
    name = run.context if split is None else split.context or run.context
    return () if name in (None, FROM_MANIFEST) else load_phrases(name)


def _noise_file(name: str) -> tuple[Path, str | None]:
    """A recording of the `noise` corpus, and its hash."""
    manifest = manifest_of("noise")
    for item in manifest.utterances:
        if item.id == name:
            return manifest.audio_path(item), item.sha256
    raise bad("--noise", "name", name, "one of " + ", ".join(item.id for item in manifest.utterances))


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[Done], None]]:
    """A bar on a terminal; elsewhere a plain line at every tenth."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total)
            yield lambda _: bar.advance(task)
        return
    count = 0

    def plain(_: Done) -> None:
        nonlocal count
        count += 1
        if count % max(1, total // 10) == 0 or count == total:
            print(f"{title}: {count}/{total}", file=sys.stderr, flush=True)

    yield plain
