"""Shards: the same run from them as from the corpora, and every damage is named before training starts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from edgespeech.cli import app
from edgespeech.corpora.manifest import load_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.training.config import TrainConfig
from edgespeech.training.loop import STATE, train
from edgespeech.training.shards import INDEX, Shards, write_shards
from edgespeech.training.speech import load_speech, run_manifests

Make = Callable[..., TrainConfig]


def packed(config: TrainConfig, folder: Path, *, largest_mb: float = 0.1) -> Path:
    write_shards(run_manifests(config), folder, seed=3, largest_mb=largest_mb)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_run_from_shards_is_the_run_from_the_corpora(settings: Make, corpus: Path, tmp_path: Path) -> None:
    config = settings(watch={"utterances": 4, "tuning": [str(corpus)]}, steps=4)
    train(config, tmp_path / "files", quiet=True)
    folder = packed(config, tmp_path / "shards")
    assert len(list(folder.glob("*.tar"))) > 1
    for path in corpus.parent.glob("*.flac"):
        path.unlink()
    corpus.unlink()
    train(config, tmp_path / "sharded", quiet=True, shards=folder)
    one, two = (load_file(tmp_path / name / STATE) for name in ("files", "sharded"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_shards_are_bounded_and_the_same_for_one_seed(settings: Make, tmp_path: Path) -> None:
    first, second = (packed(settings(), tmp_path / name) for name in ("one", "two"))
    assert files(first) == files(second)
    assert max(path.stat().st_size for path in first.glob("*.tar")) <= 100_000
    third = tmp_path / "three"
    write_shards(run_manifests(settings()), third, seed=4, largest_mb=0.1)
    assert files(first) != files(third)


def test_speech_keeps_its_order_and_samples(settings: Make, corpus: Path, tmp_path: Path) -> None:
    config = settings()
    whole = load_speech(config.speech, longest_s=5)
    sharded = load_speech(config.speech, longest_s=5, shards=Shards(packed(config, tmp_path / "shards")))
    assert [item.id for item in whole.items] == [u.id for u in load_manifest(corpus).utterances]
    assert [item.id for item in sharded.items] == [item.id for item in whole.items]
    assert whole.sha256 == sharded.sha256
    for one, two in zip(whole.items, sharded.items, strict=True):
        assert (whole.samples(one) == sharded.samples(two)).all()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-600]), "bytes is .*cut short"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "sha256 is"),
        (lambda path: path.unlink(), "a file that exists, as the index says"),
    ],
)
def test_a_damaged_shard_is_named_and_nothing_is_written(
    settings: Make, tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    folder = packed(settings(), tmp_path / "shards")
    last = sorted(folder.glob("*.tar"))[-1]
    damage(last)
    with pytest.raises(EdgeSpeechError, match=f"{last.name}.*{said}"):
        train(settings(), tmp_path / "run", quiet=True, shards=folder)
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "work").glob("training/shards/*"))


def test_an_index_that_lies_is_refused(settings: Make, tmp_path: Path) -> None:
    folder = packed(settings(), tmp_path / "shards")
    index = json.loads((folder / INDEX).read_text())
    index["shards"][0]["utterances"] += 1
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(EdgeSpeechError, match=r"shard-00000\.tar: utterances is"):
        Shards(folder)
    index["format"] = "other"
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(EdgeSpeechError, match=f"{INDEX}: format is 'other'"):
        Shards(folder)


def test_what_cannot_be_sharded_is_refused(settings: Make, tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=r"bytes is .*the bound on a shard"):
        packed(settings(), tmp_path / "small", largest_mb=0.012)
    assert not (tmp_path / "small" / INDEX).exists()
    folder = packed(settings(), tmp_path / "shards")
    with pytest.raises(EdgeSpeechError, match="shards are never overwritten"):
        packed(settings(), folder)
    other = settings(speech=[{"corpus": "corpora/other.jsonl"}])
    with pytest.raises(EdgeSpeechError, match=r"corpora is 'corpora/other\.jsonl'"):
        train(other, tmp_path / "run", quiet=True, shards=folder)


def test_without_an_index_there_are_no_shards(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=r"index is .*shards\.json"):
        Shards(tmp_path)


def test_the_command_line_packs_a_run_and_names_what_is_wrong(settings: Make, tmp_path: Path) -> None:
    run = tmp_path / "run.yaml"
    run.write_text(yaml.safe_dump(settings().model_dump(mode="json")))
    cli = CliRunner()
    done = cli.invoke(app, ["shard", str(run), "--out", str(tmp_path / "shards"), "--largest-mb", "0.1"])
    assert done.exit_code == 0, done.output
    assert Path(done.stdout.strip()) == tmp_path / "shards" / INDEX
    sizes = [shard["bytes"] for shard in json.loads((tmp_path / "shards" / INDEX).read_text())["shards"]]
    assert sizes == [path.stat().st_size for path in sorted((tmp_path / "shards").glob("*.tar"))]
    again = cli.invoke(app, ["shard", str(run), "--out", str(tmp_path / "shards")])
    assert again.exit_code != 0
