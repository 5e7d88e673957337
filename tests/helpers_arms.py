"""Fabricated rows of arms, and what every page of arms must keep."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from edgespeech.arms.configuration import Arms


def arm_row(name: str, family: str, point: float | None, wer: float, **changes: Any) -> dict[str, Any]:
    rate = {"wer": wer, "n": 9, "low": wer - 0.01, "high": wer + 0.02}
    against = {"difference": 0.01, "lower": -0.01, "upper": 0.03, "verdict": "tie"}
    return {
        "name": name, "family": family, "point": point, "seed": 1, "measured": True, "file_bytes": 2_400_000,
        "bits_per_weight": 4.17, "zeros": 0.15, "edge_sha256": "0" * 64, "wer": {"one": rate, "pooled": rate | against},
        "wer_other": {"1": wer + 0.01}, "chunk_bytes": 7e6,
        "cold": {"mean_s": 3e-4, "p99_s": 4e-4, "n": 7}, "warm": {"mean_s": 1e-4, "p99_s": 2e-4, "n": 20},
    } | changes  # fmt: skip


def check_page(page: ModuleType, arms: Arms, config: dict[str, Any]) -> None:
    """Claims are of the page, and comparisons of arms that there are."""
    ids = {claim.id for claim in page.PAGE.claims()}
    assert page.PAGE.config()  # every claim that it names is one of the page's
    firsts = {arm.first for arm in arms.arms.values()}
    assert config["control"] in firsts
    for entry in config["comparisons"]:
        assert {entry["arm"], entry["against"]} <= firsts
        assert set(entry) <= {"claim", "arm", "against", "each"}
    assert f"{page.PAGE.name}.again" in ids


def check_blocks(page: ModuleType) -> None:
    """Without a record the page says so, and the plots are those of the newest record."""
    for record in (None, {"rows": [{"claim": "x", "skipped": "y"}]}):
        assert page.PAGE.plots(record) == {}
        for block in page.PAGE.blocks.values():
            assert block(record) == "No record yet.\n"
    drawn = page.PAGE.plots(page.PAGE.view())
    assert {path.name for path in page.HERE.glob("*.svg")} == set(drawn)
    for name, svg in drawn.items():
        assert (page.HERE / name).read_text(encoding="utf-8") == svg
