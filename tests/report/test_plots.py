from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgespeech.records.records import Record
from edgespeech.report.drawing import DARK, LIGHT, looks_of, themed
from edgespeech.report.plots import all_plots
from edgespeech.report.reference import Reference
from helpers_demo import publish_demo
from helpers_records import publish

LEX = Reference(
    schema_version=1,
    corpus="coffee_dev",
    metric="acceptance",
    noise="kitchen",
    snr_rule="peak-frame",
    source="s",
    note="n",
    values={"Lex": {6.0: 0.8, 24.0: 0.88}},
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record], dict[str, str]]:
    folder = tmp_path_factory.mktemp("records")
    records = publish_demo(folder)
    return folder, records, all_plots(folder, records, [LEX])


def words(svg: str) -> str:
    return " ".join(
        element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    )


def test_the_plots_say_what_is_seen(demo: tuple[Path, list[Record], dict[str, str]]) -> None:
    plots = demo[2]
    assert list(plots) == ["wer_upl", "wer_bytes", "wer", "acceptance", "latency", "networks", "uplink"]
    assert "word error rate, %" in words(plots["wer"])
    assert "an4_test, n = 20" in words(plots["wer"])
    assert "Lex, published" in words(plots["acceptance"])
    assert "whisper-tiny-local, here" in words(plots["acceptance"])
    assert "user-perceived latency, s" in words(plots["latency"])
    for network in demo[1][0].networks:
        assert f"{network}, n = 20" in words(plots["networks"])
    assert "cloud-whisper-base" in words(plots["networks"])
    assert "PCM 64.0" in words(plots["uplink"])
    assert "null" not in words(plots["wer"]).split()


def test_the_same_records_give_the_same_bytes(demo: tuple[Path, list[Record], dict[str, str]]) -> None:
    folder, records, plots = demo
    assert all_plots(folder, records[::-1], [LEX]) == plots
    assert "<dc:date>" not in plots["wer"]


def test_a_system_looks_the_same_everywhere(demo: tuple[Path, list[Record], dict[str, str]]) -> None:
    looks = looks_of(demo[1])
    plain, prompted = looks["cloud-whisper-base"], looks["cloud-whisper-base + context"]
    assert plain.colour == prompted.colour
    assert plain.fill != prompted.fill
    assert len({look.colour for name, look in looks.items() if "context" not in name}) == len(looks) - 1


def test_inline_plots_take_the_pages_colours(demo: tuple[Path, list[Record], dict[str, str]]) -> None:
    for svg in demo[2].values():
        inline = themed(svg, "one")
        assert inline.startswith("<svg")
        assert "var(--ink)" in inline
        assert not {*re.findall(r"#[0-9a-f]{6}\b", inline)} & {*LIGHT.values()}


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_colours_stand_out_from_the_page(theme: dict[str, str]) -> None:
    page = _luminance(theme["page"])
    for role, colour in theme.items():
        if role not in ("page", "grid"):
            low, high = sorted((page, _luminance(colour)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (role, colour)


def test_records_without_data_for_a_plot_leave_it_out(tmp_path: Path) -> None:
    made = publish(tmp_path)
    assert list(all_plots(tmp_path, [made], [])) == ["wer", "latency", "uplink"]
    assert all_plots(tmp_path, [], []) == {}


def test_results_that_never_came_are_drawn(tmp_path: Path) -> None:
    from edgespeech.records.records import load_record, write_record
    from helpers_records import record, rows

    said = rows(cloud=True, failed=range(20))
    made = load_record(write_record(record(cloud=True, said=said), said, tmp_path))
    assert "user-perceived latency, s" in words(all_plots(tmp_path, [made], [])["latency"])
