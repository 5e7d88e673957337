"""One run, from a recogniser's name to a record: the only place where a run is put together."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edgespeech.cloud.link import load_profiles
from edgespeech.contracts import LinkProfile, Recogniser, Request
from edgespeech.core.places import checkout
from edgespeech.corpora.corpora import Split, find_split
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest
from edgespeech.corpora.phrases import FROM_MANIFEST, load_phrases, phrases_for
from edgespeech.corpora.utterances import AudioCondition, Noise, spoken_of
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.plan import Profile, Run
from edgespeech.harness.score import ScoredRun, resampling_unit, score
from edgespeech.harness.workers import Done, Job, run_jobs
from edgespeech.records import provenance
from edgespeech.records.records import (
    CorpusRow,
    Provenance,
    Record,
    Row,
    Subset,
    SystemRow,
    make_run_id,
    sha256_json,
    without_paths,
)
from edgespeech.text.grammar import load_grammar

_log = logging.getLogger(__name__)

ENDPOINTING = (
    "The end of the file ends an utterance, unless the system says that it ends one by itself; "
    "what follows its end-point is then heard as a further segment."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a run has besides its recogniser and data.

    Attributes:
        seed: of the subset, the noise, the networks and the intervals.
        threads: pinned for every library of the recogniser.
        cloud_speedup: far side's speed in units of this machine's.
        networks: profiles to replay over.
        profile: quick or full, as the record says.
        concurrent_jobs: runs on this machine at once, this one included.
    """

    seed: int
    threads: int
    cloud_speedup: float
    networks: tuple[str, ...]
    profile: Profile
    concurrent_jobs: int

    def links(self) -> dict[str, LinkProfile]:
        """The profiles themselves.

        Raises:
            EdgeSpeechError: one is unknown.
        """
        known = load_profiles()
        for name in self.networks:
            if name not in known:
                raise bad("--network", "name", name, "one of " + ", ".join(known))
        return {name: known[name] for name in self.networks}


def evaluate_run(
    run: Run,
    settings: Settings,
    *,
    options: Mapping[str, Any] | None = None,
    grammar: str | None = None,
    missing: str | None = None,
) -> tuple[Record, list[Row]]:
    """Run one recogniser over one corpus under one condition.

    Args:
        run: what to run.
        settings: how.
        options: for the recogniser's constructor.
        grammar: parses hypotheses where the manifest has intents; by default the one that the corpus names.
        missing: why the corpus is not there, when that is known already.

    Returns:
        The record and its rows. Its status is `skipped` when something it needs is not to be had here, `failed` when
        the recogniser cannot be loaded; a failure on single utterances is in the rows and the figures.

    Raises:
        EdgeSpeechError: the request itself makes no sense (unknown system, network, noise, grammar; bad manifest;
            intents without a grammar). Told before anything runs.
    """
    options = dict(options or {})
    recogniser = find_recogniser(run.system, **options)
    links = settings.links()
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    split = _split_of(run.corpus)
    draft = _Draft(
        run=run,
        settings=settings,
        options=options,
        created=created,
        recogniser=recogniser,
        notes=() if split is None else split.notes,
    )
    missing = missing or recogniser.missing()
    if missing is not None:
        return draft.unfinished("skipped", missing), []
    manifest = manifest_of(run.corpus)
    chosen = manifest if run.subset is None else manifest.subset(run.subset, settings.seed)
    grammar = grammar or (split.grammar if split is not None else None)
    _check_grammar(grammar, chosen)
    bias = _bias(run, split)
    jobs = _jobs(run, chosen, settings)
    load_before = provenance.load_average()
    _log.info("%d utterances of %s, manifest %s", len(jobs), manifest.name, manifest.sha256)
    start = perf_counter()
    with _progress(f"{run.system} on {manifest.name}, {run.condition.label}", len(jobs)) as advance:
        try:
            result = run_jobs(type(recogniser), options, jobs, threads=settings.threads, on_done=advance)
        except EdgeSpeechError as error:
            return draft.unfinished("failed", str(error), chosen), []
    scored = score(
        chosen.utterances,
        result,
        links,
        seed=settings.seed,
        cloud_speedup=settings.cloud_speedup,
        grammar=grammar,
        bias=bias,
    )
    return draft.finished(chosen, scored, load_before, perf_counter() - start), scored.rows


def _jobs(run: Run, manifest: Manifest, settings: Settings) -> list[Job]:
    noise = None
    if run.noise is not None and run.snr_db is not None and run.snr_rule is not None:
        path, sha256 = _noise_file(run.noise)
        noise = Noise(path=path, snr_db=run.snr_db, rule=run.snr_rule, sha256=sha256)
    condition = AudioCondition(noise=noise, band=run.band, seed=settings.seed)
    phrases = load_phrases(run.context) if run.context not in (None, FROM_MANIFEST) else ()
    return [
        Job(
            spoken=spoken,
            request=Request(
                utterance_id=spoken.id,
                language=spoken.item.lang,
                context=phrases_for(run.context, phrases, spoken.item),
                seed=settings.seed,
            ),
        )
        for spoken in spoken_of(manifest, condition)
    ]


def _split_of(corpus: str) -> Split | None:
    """The split's description; None for a manifest file of somebody's own."""
    if corpus.endswith(".jsonl"):
        return None
    found, name = find_split(corpus)
    return found.splits[name]


def _check_grammar(name: str | None, manifest: Manifest) -> None:
    """Refuse, before hours are spent on a run, what its scoring would refuse after it."""
    if name is not None:
        load_grammar(name)
    elif any(utterance.intent is not None for utterance in manifest.utterances):
        raise EdgeSpeechError(
            f"{manifest.name}: the manifest has intents, expected a grammar to parse hypotheses with (--grammar)"
        )


def _bias(run: Run, split: Split | None) -> tuple[str, ...]:
    """The phrases that B-WER and U-WER are scored by: the corpus's list, sent along or not, else the run's."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Draft:
    """What is known of a record before its run."""

    run: Run
    settings: Settings
    options: Mapping[str, Any]
    created: str
    recogniser: Recogniser
    notes: tuple[str, ...]

    def unfinished(self, status: str, reason: str, manifest: Manifest | None = None) -> Record:
        system = SystemRow(name=self.recogniser.name, kind=self.recogniser.kind, config=dict(self.options))
        return self._record(
            system,
            self._corpus(manifest),
            status=status,
            reason=without_paths(reason),
            provenance=self._provenance(provenance.load_average(), None),
        )

    def finished(self, manifest: Manifest, scored: ScoredRun, load_before: float, wall_s: float) -> Record:
        info = asdict(scored.loaded.info)
        corpus = self._corpus(manifest).model_copy(
            update={
                "n_failed": scored.n_failed,
                "audio_s": round(scored.audio_s, 3),
                "ref_words": scored.ref_words,
            }
        )
        return self._record(
            SystemRow(**info),
            corpus,
            status="passed",
            provenance=self._provenance(load_before, round(wall_s, 3)),
            accuracy=scored.accuracy,
            acceptance=scored.acceptance,
            latency=scored.latency,
            networks=scored.networks,
            uplink=scored.uplink,
            memory=scored.memory,
            load_s=round(scored.loaded.load_s, 4),
            warmup_s=round(scored.loaded.warmup_s, 4),
        )

    def _corpus(self, manifest: Manifest | None) -> CorpusRow:
        subset = None if self.run.subset is None else Subset(n=self.run.subset, seed=self.settings.seed)
        if manifest is None:
            return CorpusRow(name=Path(self.run.corpus).stem, subset=subset, notes=self.notes)
        return CorpusRow(
            name=manifest.name,
            manifest_sha256=manifest.sha256,
            n_utterances=len(manifest.utterances),
            subset=subset,
            resampling=resampling_unit(manifest.utterances),
            notes=self.notes,
        )

    def _provenance(self, load_before: float, wall_s: float | None) -> Provenance:
        commit, dirty = provenance.git_state(checkout())
        cpu_model, cpu_flags = provenance.processor()
        return Provenance(
            commit=commit,
            dirty=dirty,
            python=platform.python_version(),
            versions=provenance.package_versions(),
            cpu_model=cpu_model,
            cpu_flags=tuple(cpu_flags),
            cores=provenance.cores(),
            threads=self.settings.threads,
            platform=f"{platform.system()} {platform.machine()}",
            load_average_before=load_before,
            concurrent_jobs=self.settings.concurrent_jobs,
            wall_s=wall_s,
        )

    def _record(self, system: SystemRow, corpus: CorpusRow, **rest: Any) -> Record:
        config = {
            "options": dict(self.options),
            "context": self.run.context,
            "networks": list(self.settings.networks),
            "threads": self.settings.threads,
            "cloud_speedup": self.settings.cloud_speedup,
        }
        config_sha256 = sha256_json(config)
        prov: Provenance = rest["provenance"]
        return Record(
            run_id=make_run_id(
                created=self.created,
                profile=self.settings.profile,
                system=system,
                corpus=corpus,
                condition=self.run.condition,
                seed=self.settings.seed,
                config_sha256=config_sha256,
                commit=prov.commit,
            ),
            created=self.created,
            profile=self.settings.profile,
            system=system,
            corpus=corpus,
            condition=self.run.condition,
            endpointing=ENDPOINTING,
            cloud_speedup=self.settings.cloud_speedup,
            seed=self.settings.seed,
            config_sha256=config_sha256,
            **rest,
        )
