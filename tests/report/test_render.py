from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.report import plots, render
from helpers_demo import publish_demo
from helpers_records import publish

README = "# Title\n\n<!-- table:headline -->\n<!-- /table -->\n\nend\n"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records, written once."""
    folder = tmp_path_factory.mktemp("demo")
    publish_demo(folder)
    return folder


@pytest.fixture
def drawn(demo: Path, tmp_path: Path) -> Path:
    """A project whose plots are drawn each time."""
    shutil.copytree(demo, tmp_path / "results" / "records")
    (tmp_path / "README.md").write_text(README)
    return tmp_path


@pytest.fixture
def project(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a test that is not about plots: there is one, which takes no time to draw."""
    monkeypatch.setattr(plots, "all_plots", lambda *_: {"wer": "<svg/>"})
    return drawn


def run(project: Path, *, check: bool) -> list[str]:
    return render(project / "results" / "records", project / "results", [project / "README.md"], check=check)


def test_checking_writes_nothing_and_names_what_differs(drawn: Path) -> None:
    changed = run(drawn, check=True)
    assert "README.md" in changed
    assert "results/headline.md" in changed
    assert "results/plots/wer.svg" in changed
    assert sorted(path.name for path in (drawn / "results").iterdir()) == ["records"]
    assert (drawn / "README.md").read_text() == README


def test_rendering_again_gives_the_same_bytes(drawn: Path) -> None:
    changed = run(drawn, check=False)
    before = {path: (drawn / path).read_bytes() for path in changed}
    assert run(drawn, check=True) == []
    for path in changed:
        if path != "README.md":
            (drawn / path).unlink()
    assert run(drawn, check=False) == [path for path in changed if path != "README.md"]
    assert {path: (drawn / path).read_bytes() for path in changed} == before
    publish(drawn / "results" / "records", system="newcomer")
    assert "results/plots/wer.svg" in run(drawn, check=True)


def test_the_index_begins_with_the_findings_of_the_readme(project: Path) -> None:
    readme = project / "README.md"
    readme.write_text(readme.read_text() + "<!-- text:findings -->\n<!-- /text -->\n")
    for name in ("edge-packed", "cloud-whisper-base"):
        publish(project / "results" / "records", system=name, corpus="coffee_dev")
    run(project, check=False)
    index = (project / "results" / "README.md").read_text()
    findings = index.partition("# Results\n\n")[2].partition("\n## All tables\n")[0]
    assert findings.startswith("* **In its domain")
    assert f"<!-- text:findings -->\n\n{findings}\n<!-- /text -->" in readme.read_text()


def test_an_edited_table_and_a_new_record_are_found(project: Path) -> None:
    run(project, check=False)
    table = project / "results" / "memory.md"
    table.write_text(table.read_text().replace("250.0 MB", "25.0 MB"))
    assert run(project, check=True) == ["results/memory.md"]
    run(project, check=False)
    publish(project / "results" / "records", system="newcomer")
    assert {"results/headline.md", "README.md"} <= set(run(project, check=True))


def test_links_lead_to_records(project: Path) -> None:
    run(project, check=False)
    for path, prefix in (("README.md", "results/records/"), ("results/headline.md", "records/")):
        text = (project / path).read_text()
        links = [part.split(")")[0] for part in text.split("](")[1:]]
        assert links
        for link in links:
            assert link.startswith(prefix)
            assert ((project / path).parent / link).is_file()


def test_the_readme_keeps_what_stands_around_the_block(project: Path) -> None:
    run(project, check=False)
    text = (project / "README.md").read_text()
    assert text.startswith("# Title\n\n<!-- table:headline -->\n\n| System |")
    assert text.endswith("<!-- /table -->\n\nend\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "<!-- table:speed -->\n<!-- /table -->\n",
            "table is 'speed', expected one of front, headline, noise",
        ),
        ("<!-- table:headline -->\n", "has no `<!-- /table -->` or"),
    ],
)
def test_a_wrong_block_is_named(project: Path, text: str, message: str) -> None:
    (project / "README.md").write_text(text)
    with pytest.raises(EdgeSpeechError, match=message):
        run(project, check=False)


def test_texts_and_pages_below_docs_are_rendered(project: Path) -> None:
    page = project / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("<!-- text:findings -->\n<!-- /text -->\n<!-- table:front -->\n<!-- /table -->\n")
    pages = [project / "README.md", page]
    assert "docs/page.md" in render(project / "results/records", project / "results", pages, check=False)
    text = page.read_text()
    assert "No record yet." in text  # the demo has no device model
    assert "](../results/records/cloud-whisper-base." in text
    assert render(project / "results/records", project / "results", pages, check=True) == []


def test_what_is_no_longer_rendered_is_removed(project: Path) -> None:
    run(project, check=False)
    stale, ours = project / "results" / "metrics.md", project / "results" / "notes.md"
    stale.write_text((project / "results" / "memory.md").read_text())
    ours.write_text("# Written by hand\n")
    assert run(project, check=True) == ["results/metrics.md"]
    run(project, check=False)
    assert (stale.exists(), ours.exists()) == (False, True)


def test_figures_are_compared_by_what_they_hold(project: Path) -> None:
    run(project, check=False)
    packed = project / "results" / "figures.csv.gz"
    packed.write_bytes(gzip.compress(gzip.decompress(packed.read_bytes()), compresslevel=1, mtime=1))
    assert run(project, check=True) == []
    packed.write_bytes(gzip.compress(b"run_id\n"))
    assert run(project, check=True) == ["results/figures.csv.gz"]


def test_no_records_render_too(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(README)
    assert "results/headline.md" in run(tmp_path, check=False)
    assert "No record yet." in (tmp_path / "README.md").read_text()
