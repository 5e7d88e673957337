"""The record of a run: the request, the recogniser and the results."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgespeech.audio.io import MONO
from edgespeech.cloud.link import load_profiles
from edgespeech.contracts import LinkProfile, Recogniser
from edgespeech.core.places import checkout
from edgespeech.corpora.manifest import Manifest
from edgespeech.errors import bad
from edgespeech.harness.plan import Profile, Run
from edgespeech.harness.score import ScoredRun, publishable, resampling_unit
from edgespeech.harness.workers import GIVEN_UP
from edgespeech.records import provenance
from edgespeech.records.records import (
    CorpusRow,
    Provenance,
    Record,
    Subset,
    SystemRow,
    make_run_id,
    sha256_json,
    without_paths,
)

ENDPOINTING = (
    "The end of the file ends an utterance, unless the system says that it ends one by itself; "
    "what follows its end-point is then heard as a further segment."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of a run besides its recogniser and data.

    Attributes:
        seed: of the subset, the noise, the networks and the intervals.
        threads: limit for every library of the recogniser.
        cloud_speedup: server's speed relative to this machine's.
        networks: profiles for replay.
        profile: quick or full.
        concurrent_jobs: number of simultaneous runs on this machine, including this one.
        channels: how to treat multi-channel audio (`audio.io.check_channels`).
    """

    seed: int
    threads: int
    cloud_speedup: float
    networks: tuple[str, ...]
    profile: Profile
    concurrent_jobs: int
    channels: str = MONO

    def links(self) -> dict[str, LinkProfile]:
        """The network profiles.

        Raises:
            EdgeSpeechError: one is unknown.
        """
        known = load_profiles()
        for name in self.networks:
            if name not in known:
                raise bad("--network", "name", name, "one of " + ", ".join(known))
        return {name: known[name] for name in self.networks}


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """The parts of a record that are known before the run.

    Attributes:
        run: of the plan.
        settings: of the run.
        options: of the recogniser.
        created: start of the run.
        recogniser: not loaded.
        notes: footnotes of the corpus.
        nonce: distinguishes equal runs within one second.
    """

    run: Run
    settings: Settings
    options: Mapping[str, Any]
    created: str
    recogniser: Recogniser
    notes: tuple[str, ...]
    nonce: str

    def unfinished(self, status: str, reason: str, manifest: Manifest | None = None) -> Record:
        """The record of a run that did not happen."""
        system = SystemRow(
            name=self.recogniser.name, kind=self.recogniser.kind, config=publishable(dict(self.options))
        )
        return self._record(
            system,
            self._corpus(manifest),
            status=status,
            reason=without_paths(reason),
            provenance=self._provenance(provenance.load_average(), None),
        )

    def finished(self, manifest: Manifest, scored: ScoredRun, load_before: float, wall_s: float) -> Record:
        """The record of a run; `failed` if no utterance was recognised, or if the run gave up."""
        info = asdict(scored.loaded.info)
        corpus = self._corpus(manifest).model_copy(
            update={
                "n_failed": scored.n_failed,
                "audio_s": round(scored.audio_s, 3),
                "ref_words": scored.ref_words,
            }
        )
        if (reason := _nothing_worked(scored)) is not None:
            return self._record(
                SystemRow(**info),
                corpus,
                status="failed",
                reason=reason,
                provenance=self._provenance(load_before, round(wall_s, 3)),
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
            manifest_sha256=manifest.identity(),
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
            **({} if self.settings.channels == MONO else {"channels": self.settings.channels}),
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
                nonce=self.nonce,
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


def _nothing_worked(scored: ScoredRun) -> str | None:
    """Why a run is not a valid measurement of its recogniser, or None."""
    failures = [row.failure for row in scored.rows if row.failure is not None]
    if len(failures) == len(scored.rows):
        return without_paths(f"no utterance was recognised; the first: {failures[0]}")
    given_up = [failure for failure in failures if failure.startswith(GIVEN_UP)]
    return without_paths(f"{len(given_up)} utterances were {given_up[0]}") if given_up else None
