from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgespeech.metrics.registry import metrics
from edgespeech.records.records import Record
from edgespeech.report import timeline
from edgespeech.report.drawing import DARK, LIGHT
from edgespeech.report.html import write_page
from helpers_demo import publish_demo

CLAIMS = "**8 claims of 4 papers: 1 reproduced.** *Mixed* means `this`.\n\n* Reproduced: small.\n"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
REFERENCES = Path(__file__).parents[2] / "results" / "reference"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """The page and its records, made once."""
    folder = tmp_path_factory.mktemp("page")
    records = publish_demo(folder / "records")
    write_page(folder / "records", REFERENCES, folder / "page.html", claims=CLAIMS)
    return folder, records


@pytest.fixture
def page(written: tuple[Path, list[Record]], tmp_path: Path) -> tuple[Path, list[Record]]:
    """A copy that a test may change."""
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / "page.html", written[1]


def opened(page: Path, tmp_path: Path, *flags: str) -> tuple[str, str]:
    """The page's DOM after its script ran, and what the browser had to say."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium found: none of " + ", ".join(BROWSERS))
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
    command += [*flags, "--enable-logging=stderr", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def text_of(dom: str) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", dom, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


@pytest.mark.browser
def test_the_page_opens_with_its_content_and_without_errors(
    page: tuple[Path, list[Record]], tmp_path: Path
) -> None:
    path, records = page
    dom, console = opened(path, tmp_path)
    assert console == ""
    text = text_of(dom)
    assert f"rendered from {len(records)} records" in text
    for words in (
        "What became of the claims 8 claims of 4 papers: 1 reproduced. Mixed means this . Reproduced: small.",
        "Every system, corpus by corpus",
        "Word errors against waiting, coffee_dev",
        "Word errors against size, coffee_dev",
        "Word errors on clean audio, by corpus and system",
        "Commands understood against noise, coffee_dev",
        "Picovoice Rhino (on device, given the grammar), published",
        "How long users wait after they stop speaking",
        "skipped: no weights here",
        "its coffee WER with context is flattered",
    ):
        assert words in text, words
    for metric in metrics().values():
        assert metric.id in text
    assert all(f'id="run-{record.run_id}"' in dom for record in records)
    # The timeline is drawn by the script alone.
    drawn = re.search(r'<div id="timeline">(.*)</div>\s*</section>', dom, re.DOTALL)
    assert drawn is not None
    assert drawn[1].count("<circle") >= 2
    assert "Recognised:" in drawn[1]
    assert "end of speech" in drawn[1]


SORT = """<script>
for (const title of ["n", "WER whisper-en", "WER whisper-en", "Model"]) {
  const head = [...document.querySelectorAll("#headline th")].find((th) => th.textContent === title);
  head.firstElementChild.click();
  const rows = [...document.querySelectorAll("#headline tbody tr")];
  const column = rows.map((tr) => tr.cells[head.cellIndex].textContent);
  console.log("sorted " + title + " " + head.getAttribute("aria-sort") + ": " + column.join(" ; "));
}
const run = document.getElementById("pick-run");
run.value = [...run.options].find((option) => option.textContent === "cloud-whisper-base, clean").value;
run.dispatchEvent(new Event("change"));
const pick = document.getElementById("pick-shown");
for (const corpus of ["coffee_dev", "an4_test", ""]) {
  if (corpus !== "coffee_dev") { pick.value = corpus; pick.dispatchEvent(new Event("change")); }
  const rows = [...document.querySelectorAll("#headline tbody tr")].filter((tr) => !tr.hidden);
  const names = new Set(rows.map((tr) => tr.cells[1].firstChild.textContent.trim()));
  const plots = [...document.querySelectorAll("figure.of-corpus")].filter((item) => !item.hidden);
  console.log("shown " + corpus + ": " + rows.length + " rows of " + [...names].sort().join(" ") + "; "
    + [...new Set(plots.map((item) => item.dataset.corpus))].join(" "));
}
console.log("timeline: " + document.querySelector("#timeline svg").textContent.replace(/\\s+/g, " "));
console.log("remark: " + document.querySelector("#timeline .caption").textContent);
document.querySelector("#headline tbody a").click();
setTimeout(() => console.log("open: " + document.querySelectorAll("details[open]").length), 200);
</script></body>"""


@pytest.mark.browser
def test_tables_sort_timelines_switch_and_links_open_runs(
    page: tuple[Path, list[Record]], tmp_path: Path
) -> None:
    path, _ = page
    path.write_text(path.read_text().replace("</body>", SORT))
    _, console = opened(path, tmp_path)
    said = dict(re.findall(r'CONSOLE[^"]*"([^:]+): ([^"]*)"', console))
    up, down = (
        [
            float(cell.split(" ")[0])
            for cell in said[f"sorted WER whisper-en {way}"].split(" ; ")
            if cell[0].isdigit()
        ]
        for way in ("ascending", "descending")
    )
    assert up == sorted(up)
    assert down == sorted(up, reverse=True)
    assert said["sorted WER whisper-en ascending"].endswith("skipped: no weights here")
    assert "9.0 MB ; 74.0 MB" in said["sorted Model ascending"]
    assert "sent" in said["timeline"]
    assert "1500 bytes" in said["timeline"]
    assert "4 messages with 6000 payload bytes" in said["remark"]
    assert said["open"] == "2"  # the list of runs, and the run
    # The corpus of the first screen is chosen at first.
    assert said["shown coffee_dev"] == "5 rows of coffee_dev; coffee_dev"
    assert said["shown an4_test"].endswith("rows of an4_test; an4_test")
    assert said["shown "] == "15 rows of an4_test assistant_mini coffee_dev; "


FRAME = """<!doctype html><body style="margin: 0">
<iframe src="page.html" style="width: {width}px; height: 2000px; border: 0"></iframe><script>
document.querySelector("iframe").addEventListener("load", function () {{
  const inside = this.contentDocument;
  const words = [...inside.querySelectorAll("p, li, h1, h2, summary")].filter((item) => item.offsetParent);
  const wide = words.filter((item) => item.getBoundingClientRect().right > {width}).length;
  console.log("seen: " + inside.documentElement.scrollWidth + " " + wide + " "
    + this.contentWindow.getComputedStyle(inside.body).backgroundColor);
}});
</script></body>"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize(("scheme", "background"), [("light", LIGHT["page"]), ("dark", DARK["page"])])
def test_the_page_fits_any_screen_in_the_light_and_in_the_dark(
    page: tuple[Path, list[Record]], tmp_path: Path, width: int, scheme: str, background: str
) -> None:
    """Tables and plots scroll inside the page, never the page itself, and no text leaves it."""
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width))
    flags = [
        "--allow-file-access-from-files",
        f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
    ]
    _, console = opened(frame, tmp_path, *flags)
    found = re.search(r"seen: (\d+) (\d+) rgb\((\d+), (\d+), (\d+)\)", console)
    assert found is not None, console
    assert int(found[1]) <= width
    assert int(found[2]) == 0
    assert "#" + "".join(f"{int(part):02x}" for part in found.groups()[2:]) == background


def test_the_page_is_self_contained_and_the_same_every_time(
    page: tuple[Path, list[Record]], tmp_path: Path
) -> None:
    path, _ = page
    text = path.read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)[^"']*""", text)
    assert not re.findall(r"@import|url\((?!#)", text)
    write_page(tmp_path / "records", REFERENCES, tmp_path / "again.html", claims=CLAIMS)
    assert (tmp_path / "again.html").read_text() == text


def test_words_cannot_become_markup(tmp_path: Path) -> None:
    from edgespeech.records.records import write_record
    from helpers_records import record, rows

    bad = "</script><img src=x onerror=alert(1)>"
    said = [row.model_copy(update={"hyp_raw": bad if row.hyp_raw else ""}) for row in rows(cloud=False)]
    made = record(said=rows(cloud=False), notes=(bad,))
    write_record(made, said, tmp_path / "records")
    write_page(tmp_path / "records", REFERENCES, tmp_path / "page.html")
    assert "<img" not in (tmp_path / "page.html").read_text()


def test_an_empty_page_is_a_page(tmp_path: Path) -> None:
    write_page(tmp_path / "none", tmp_path / "none", tmp_path / "page.html")
    assert "rendered from 0 records" in (tmp_path / "page.html").read_text()


def test_the_waveform_is_that_of_the_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgespeech.audio.io import write_audio
    from edgespeech.corpora import fetch
    from edgespeech.corpora.manifest import load_manifest

    samples = np.concatenate([np.full(8000, 0.1), np.full(8000, 0.4)]).astype(np.float32)
    write_audio(tmp_path / "a.wav", samples)
    line = '{"id": "wave", "audio_filepath": "a.wav", "duration": 1.0, "text": "x"}\n'
    (tmp_path / "m.jsonl").write_text(line)
    monkeypatch.setattr(fetch, "manifest_of", lambda name: load_manifest(tmp_path / "m.jsonl", name))
    shown = [{"corpus": "assistant_mini", "utterances": [{"id": "wave"}, {"id": "absent"}]}]
    found = timeline.envelopes(shown)["assistant_mini"]
    assert list(found) == ["wave"]
    assert len(found["wave"]) == timeline.BUCKETS
    assert found["wave"][0] == 25
    assert found["wave"][-1] == 100
