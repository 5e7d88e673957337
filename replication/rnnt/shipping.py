"""Ships a model: in half precision with its language models, those of domains, and packed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgespeech.core.folders import switch_files
from edgespeech.core.places import shipped_models, work_dir
from edgespeech.errors import bad
from edgespeech.lm.fusion import save_fusion
from edgespeech.model.average import average_checkpoints
from edgespeech.model.checkpoint import WEIGHTS, load_model, save_model
from edgespeech.packed.pack import Layout, pack
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.systems.edge_packed import PACKED, EdgePacked
from edgespeech.training.fusion import load_fusion_config, make_domain, make_fusion
from edgespeech.training.loop import MODEL

FUSION_CONFIG = Path(__file__).parent / "fusion.yaml"


def publish_model(shares: Mapping[str, float], folders: Mapping[str, Path] | None = None) -> Path:
    """Ship the average of runs' models: a copy in half precision with a language model, and its packed file.

    Args:
        shares: weights by names or folders of runs or models, each trained on from the ones before it.
        folders: the runs' folders by those names; by default they are in `runs` of the work folder.

    Returns:
        The folder of the copy in half precision.

    Raises:
        EdgeSpeechError: as `average_checkpoints`, or the language model's text is not available.
    """
    known, runs = folders or {}, work_dir() / "runs"
    named = [known[name] if name in known else _folder(name, runs) for name in shares]
    models = [folder if (folder / WEIGHTS).is_file() else folder / MODEL for folder in named]
    trained = average_checkpoints(models, list(shares.values()))
    if len(shares) > 1:
        told = ", ".join(f"{Path(name).name} {share:g}" for name, share in shares.items())
        trained = replace(trained, provenance={**trained.provenance, "mean_of": told})
    fusion = make_fusion(load_fusion_config(FUSION_CONFIG), trained.tokeniser)

    def fill(made: Path) -> None:
        folder, packed = made / EdgeFp32.name, made / EdgePacked.name / PACKED
        save_model(folder, trained.model, trained.tokeniser, trained.provenance, half=True, fusion=fusion)
        publish_domains(folder, made)
        packed.parent.mkdir()
        pack(load_model(folder), Layout(), packed)

    switch_files(shipped_models(), fill)  # no reader may find files of two models
    return shipped_models() / EdgeFp32.name


def _folder(name: str, runs: Path) -> Path:
    """A run's folder, or the folder itself where the name is one's path."""
    return Path(name) if not (runs / name).is_dir() and Path(name).is_dir() else runs / name


def publish_domains(folder: Path, models: Path) -> None:
    """Ship the domain language models of `fusion.yaml` for a model that has a general one.

    Args:
        folder: of the model.
        models: the folder of all models that ship.

    Raises:
        EdgeSpeechError: it has none, or the text is not available.
    """
    trained, config = load_model(folder), load_fusion_config(FUSION_CONFIG)
    if trained.fusion is None:
        raise bad(
            "rnnt", str(folder), "without a language model", "one whose language model a domain's replaces"
        )
    for name in config.domains:
        save_fusion(models / "domains" / name, make_domain(config, name, trained.tokeniser, trained.fusion))
