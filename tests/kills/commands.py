"""The commands that are disturbed, each in a run so small that it takes a moment."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import tarfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from corpora.file_server import Server
from edgespeech.cli import corpora as corpora_commands
from edgespeech.cli import recognisers as recogniser_commands
from edgespeech.cli import results as results_commands
from edgespeech.cli import training as training_commands
from edgespeech.cli.shared import Rule
from edgespeech.contracts import SAMPLE_RATE, Kind, SystemInfo
from edgespeech.core.files import sha256_file
from edgespeech.corpora.fetch import evaluation_audio
from edgespeech.corpora.manifest import load_manifest, verify_audio
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness import evaluate
from edgespeech.harness.journal import SUFFIX
from edgespeech.harness.workers import Job
from edgespeech.harness.workers import Run as JobsRun
from edgespeech.model.checkpoint import load_model
from edgespeech.pipeline import dag, stages, summary, targets
from edgespeech.records.records import load_records, load_rows
from edgespeech.report import html, plots
from edgespeech.report.tables import load_published
from edgespeech.training import loop
from helpers_chords import tiny_run, write_chords
from helpers_demo import publish_demo
from helpers_records import publish
from kills.base import Command, Files, Worked, files
from kills.ship import Ship
from scripted import answering


class Train:
    """`edgespeech train`: four steps, a checkpoint after the second and the last."""

    name = "train"
    warms = False
    steps = 4
    shards: str | None = None

    def prepare(self, folder: Path) -> None:
        torch.set_num_threads(1)
        evaluation_audio()  # cached: it reads every corpus's description
        run = tiny_run(write_chords(folder / "chords"), steps=self.steps, save_every=2)
        (folder / "run.yaml").write_text(yaml.safe_dump(run))

    def run(self, folder: Path, worked: Worked) -> None:
        update = loop._update

        def counted(*given: Any) -> torch.Tensor:
            worked()
            return update(*given)

        setattr(loop, "_update", counted)  # noqa: B010 - in the place of a function
        os.environ["EDGESPEECH_WORK"] = str(folder / "work")
        training_commands.train(
            folder / "run.yaml",
            folder / "run",
            workers=0,
            threads=1,
            until=None,
            shards=None if self.shards is None else folder / self.shards,
        )

    def half_written(self, folder: Path, before: Files, after: Files) -> list[str]:
        run = folder / "run"
        note = run / "state.json"
        if not note.is_file():
            return []
        step, model = json.loads(note.read_text())["step"], load_model(run / loop.MODEL)
        # The state and the model may be one checkpoint ahead of the note, and no reader goes by less than all three.
        return [] if int(model.provenance["step"]) >= int(step) else [f"state.json is of step {step}"]

    def kept(self, folder: Path) -> int:
        state = folder / "run" / loop.STATE
        if not state.is_file():
            return 0
        with safe_open(state, framework="pt") as file:
            return int(file.metadata()["step"])

    def end(self, folder: Path) -> Files:
        found = files(folder)
        lines = [json.loads(line) for line in found.pop("run/log.jsonl").decode().splitlines()]
        found["log"] = [{k: v for k, v in line.items() if k != "audio_s_per_s"} for line in lines]
        # Its header has several keys, which are in another order each time.
        tensors = load_file(folder / "run" / loop.STATE)
        del found[f"run/{loop.STATE}"]
        return found | {f"state's {name}": tensor.tolist() for name, tensor in tensors.items()}


class TrainFromShards(Train):
    """`edgespeech train --shards`: shards are decoded first; two steps."""

    name = "train --shards"
    steps = 2
    shards = "shards"

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        training_commands.shard(folder / "run.yaml", folder / "shards", largest_mb=0.1, seed=0)


class Evaluate:
    """`edgespeech evaluate --resume`: four utterances; the recogniser's process is a stand-in that knows the words."""

    name = "evaluate"
    warms = True
    n = 4

    def prepare(self, folder: Path) -> None:
        write_chords(folder / "chords", self.n)

    def run(self, folder: Path, worked: Worked) -> None:
        setattr(evaluate, "run_jobs", _stand_in(worked))  # noqa: B010 - as above
        recogniser_commands.evaluate(
            system="null",
            manifest=str(folder / "chords" / "chords.jsonl"),
            out=folder / "out",
            noise=None,
            snr=None,
            snr_rule=Rule.MEAN,
            band=None,
            context=None,
            channels="mono",
            grammar=None,
            network=["wifi"],
            limit=None,
            seed=0,
            threads=1,
            cloud_speedup=10.0,
            option=[],
            resume=True,
            by=None,
        )

    def half_written(self, folder: Path, before: Files, after: Files) -> list[str]:
        load_records(folder / "out")
        return []

    def kept(self, folder: Path) -> int:
        return _finished(folder / "out") if (folder / "out").is_dir() else 0

    def end(self, folder: Path) -> Files:
        found = {name: content for name, content in files(folder).items() if not name.startswith("out/")}
        return found | _without_clocks(folder / "out")


def _without_clocks(folder: Path) -> Files:
    """Records and rows of a folder without what differs from run to run, and the names of other files."""
    found: Files = {}
    names = {path.name for path in folder.iterdir()}
    for number, record in enumerate(load_records(folder)):
        rows = load_rows(folder, record)
        names -= {f"{record.stem}.json", f"{record.stem}.hyps.jsonl"}
        told = record.model_dump(mode="json")
        for name in ("run_id", "created", "provenance", "utterances_file"):
            del told[name]
        told["corpus"]["notes"] = [note for note in told["corpus"]["notes"] if "earlier process" not in note]
        found[f"record {number}"] = (told, [row.model_dump() for row in rows])
    return found | {"others": sorted(names)}


def _stand_in(worked: Worked) -> Callable[..., JobsRun]:
    info = SystemInfo(
        name="null", kind=Kind.DEVICE, model_bytes=0, parameters=0, chunk_s=0.1, citation="none", config={}
    )

    def answer(job: Job) -> tuple[str, None]:
        worked()
        return job.spoken.item.text, None

    return answering(answer, info)


class Report:
    """`edgespeech report` of a checkout whose tables are older than its records.

    Plots are drawn once, before anything is disturbed: drawing takes a second and writes nothing.
    """

    name = "report"
    warms = False
    page = "# Page\n\n<!-- table:headline -->\n<!-- /table -->\n\n<!-- text:claims -->\n<!-- /text -->\n"

    def prepare(self, folder: Path) -> None:
        records = folder / "results" / "records"
        publish_demo(records)
        (folder / "docs").mkdir()
        for page in (folder / "README.md", folder / "docs" / "page.md"):
            page.write_text(self.page)
        setattr(html, "tradeoff_plots", lambda *_: {})  # noqa: B010 - as above
        self.run(folder, lambda: None)
        publish(records, system="newcomer")
        (folder / "results" / "stale.md").write_bytes((folder / "results" / "memory.md").read_bytes())
        drawn = plots.all_plots(records, load_published(records), [])
        for module in (plots, html):
            setattr(module, "all_plots", lambda *_: dict(drawn))  # noqa: B010 - as above

    def run(self, folder: Path, worked: Worked) -> None:
        os.environ["EDGESPEECH_WORK"] = str(folder / "work")
        pages = {
            folder / "replication" / "one" / "README.md": f"{len(files(folder / 'results/records'))} files\n"
        }
        for name, value in (
            ("project_root", folder),
            ("results_dir", folder / "results"),
            ("records_dir", folder / "results" / "records"),
            ("claims_text", "no claims"),
        ):
            setattr(summary, name, lambda value=value: value)
        setattr(summary, "rendered_pages", lambda _: pages)  # noqa: B010 - as above
        results_commands.report(check=False, html=folder / "work" / "report.html")

    def half_written(self, folder: Path, before: Files, after: Files) -> list[str]:
        return [
            name
            for name, content in files(folder).items()
            if not Path(name).name.startswith(".") and content not in (before.get(name), after.get(name))
        ]

    def kept(self, folder: Path) -> int:
        return 0

    def end(self, folder: Path) -> Files:
        return files(folder)


class Replicate:
    """`edgespeech replicate`: two rows of a plan. Its steps run in this process, in the place of Snakemake's."""

    name = "replicate"
    warms = True

    def prepare(self, folder: Path) -> None:
        chords = write_chords(folder / "mirror" / "tiny", 4)
        audio_s = sum(item.duration for item in load_manifest(chords).utterances)
        about = {"title": "Tiny", "licence": "none", "citation": "none", "homepage": "none", "kind": "speech"}
        split = {"manifest": chords.name, "sha256": sha256_file(chords), "utterances": 4, "audio_s": audio_s}
        corpus = {
            "name": "tiny",
            "sources": [{"mirror": {"folder": "tiny"}}],
            "splits": {"tiny": {**split, "evaluation_only": True}},
        }
        (folder / "corpora").mkdir()
        (folder / "corpora" / "tiny.yaml").write_text(yaml.safe_dump(about | corpus))
        rows: list[dict[str, Any]] = [{"corpora": ["tiny"], "systems": ["null"]}]
        rows += [{**rows[0], "subset": {"quick": 2}}]
        plan = {"seed": 0, "threads": 1, "cloud_speedup": 10.0, "networks": ["wifi"], "exclude": []}
        (folder / "plan.yaml").write_text(yaml.safe_dump({**plan, "rows": rows}))

    def run(self, folder: Path, worked: Worked) -> None:
        os.environ |= {
            "EDGESPEECH_CORPORA": str(folder / "corpora"),
            "EDGESPEECH_MIRROR": str(folder / "mirror"),
            "EDGESPEECH_WORK": str(folder / "work"),
        }
        setattr(evaluate, "run_jobs", _stand_in(worked))  # noqa: B010 - as above
        setattr(targets, "records_dir", lambda: folder / "published")  # noqa: B010 - as above
        setattr(dag, "subprocess", SimpleNamespace(run=_steps_here))  # noqa: B010 - as above
        wanted = targets.Wanted(names=[targets.HEADLINE], profile="quick", plan=folder / "plan.yaml")
        _, failure = targets.replicate(wanted, dag.Where(jobs=1), work=folder / "pipeline")
        if failure:
            raise EdgeSpeechError(failure)

    def half_written(self, folder: Path, before: Files, after: Files) -> list[str]:
        for path in folder.glob("pipeline/made/*/*.json"):
            json.loads(path.read_text())
        for path in folder.glob("pipeline/made/evaluate/*/"):
            load_records(path)
        return []

    def kept(self, folder: Path) -> int:
        return sum(_finished(path) for path in folder.glob("pipeline/made/evaluate/*/"))

    def end(self, folder: Path) -> Files:
        found = {}
        for name, content in files(folder).items():
            if name.startswith("pipeline/dag-"):
                continue  # a description of what was left to do then
            if not name.startswith("pipeline/made/") or name.endswith(".lock"):
                found[name] = None if name.startswith("pipeline/summary") else content
        for path in folder.glob("pipeline/made/*/*/"):
            found |= {f"{path.name}, {name}": value for name, value in _without_clocks(path).items()}
            outcome = json.loads(path.with_name(f"{path.name}.json").read_text())
            found[f"outcome of {path.name}"] = (outcome["skipped"], len(outcome["files"]))
        return found


def _steps_here(command: Sequence[str], *, env: object, check: bool) -> SimpleNamespace:
    """What Snakemake would start, one after the other: a description's tasks are in the order of their needs."""
    folder = Path(command[command.index("--directory") + 1])
    description = folder / command[command.index("--config") + 1].removeprefix("dag=")
    names = json.loads(description.read_text())["tasks"]
    return SimpleNamespace(returncode=max(stages.main([str(description), name]) for name in names))


def _finished(folder: Path) -> int:
    """Utterances that are in a folder's records, or else in its journals."""
    if records := load_records(folder):
        return sum(record.corpus.n_utterances for record in records)
    lines = [
        line for path in folder.glob(f"*{SUFFIX}") for line in path.read_text().splitlines(keepends=True)
    ]
    return sum(line.endswith("\n") and '"id"' in line for line in lines)


class Fetch:
    """`edgespeech fetch`: one split of a corpus, then the other, of one archive; and a corpus of text."""

    name = "fetch"
    warms = True

    def prepare(self, folder: Path) -> None:
        audio, text = Server(), Server()
        audio.content, text.content = (
            _speech_archive(),
            _archive({"data/data_full.json": b'{"a": [1, 2]}' * 99}),
        )
        multiprocessing.get_context("fork").Process(target=_serve, args=(audio, text), daemon=True).start()
        about = {"title": "Tiny", "licence": "none", "citation": "none", "homepage": "none"}
        split = {"evaluation_only": True, "utterances": 2}
        for name, server, reader, more in (
            (
                "tiny",
                audio,
                "librispeech",
                {
                    "kind": "speech",
                    "splits": {
                        name: {"manifest": f"{name}.jsonl", **split} for name in ("dev_clean", "test_clean")
                    },
                },
            ),
            (
                "sentences",
                text,
                "clinc150",
                {"kind": "text", "splits": {"sentences": {"manifest": "all.json", "evaluation_only": False}}},
            ),
        ):
            url = {"url": f"{server.url}/{name}.tar.gz", "sha256": hashlib.sha256(server.content).hexdigest()}
            corpus = {"name": name, "sources": [{"url": url, "reader": reader}], **about, **more}
            path = folder / "corpora" / f"{name}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(yaml.safe_dump(corpus))

    def run(self, folder: Path, worked: Worked) -> None:
        os.environ |= {
            "EDGESPEECH_CORPORA": str(folder / "corpora"),
            "EDGESPEECH_MIRROR": "",
            "EDGESPEECH_WORK": str(folder / "work"),
        }
        corpora_commands.fetch(["dev_clean", "test_clean", "sentences"])

    def half_written(self, folder: Path, before: Files, after: Files) -> list[str]:
        made = folder / "work" / "corpora"
        unfinished = [name for path in made.glob("*/.unfinished") for name in json.loads(path.read_text())]
        for path in made.glob("tiny/*.jsonl"):
            if path.name not in unfinished and len(list(made.glob("tiny/*_clean"))) == 1:
                assert verify_audio(load_manifest(path)) == 2
        text = made / "sentences" / "all.json"
        whole = not text.exists() or text.name in unfinished or text.read_bytes() in after.values()
        return [] if whole else [text.name]

    def kept(self, folder: Path) -> int:
        return 0

    def end(self, folder: Path) -> Files:
        return files(folder)


def _serve(*servers: Server) -> None:
    for server in servers:
        threading.Thread(target=server.serve_forever).start()


def _archive(content: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def _speech_archive() -> bytes:
    """As OpenSLR has them: two utterances of one speaker in each of two parts."""
    content = {}
    for part, speaker in (("dev-clean", "84"), ("test-clean", "61")):
        lines = ""
        for number in range(2):
            key = f"{speaker}-1-{number:04}"
            audio = io.BytesIO()
            soundfile.write(
                audio, 0.1 * np.sin(np.arange(1600 * (number + 1)) / 9), SAMPLE_RATE, format="FLAC"
            )
            content[f"LibriSpeech/{part}/{speaker}/1/{key}.flac"] = audio.getvalue()
            lines += f"{key} WORD {number * 'AGAIN'}\n"
        content[f"LibriSpeech/{part}/{speaker}/1/{speaker}-1.trans.txt"] = lines.encode()
    return _archive(content)


COMMANDS: tuple[Command, ...] = (
    Train(),
    TrainFromShards(),
    Evaluate(),
    Report(),
    Fetch(),
    Replicate(),
    Ship(),
)
