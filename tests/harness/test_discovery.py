from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edgespeech import systems
from edgespeech.contracts import RECOGNISER_GROUP
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness import discovery

ONE_FILE = """
from edgespeech.contracts import Event, EventKind, Kind, Recogniser, Stream, SystemInfo

class Said(Stream):
    def accept(self, samples):
        return []
    def finish(self):
        return [Event(kind=EventKind.FINAL, text="hello")]

class OneFile(Recogniser):
    name = "one-file"
    kind = Kind.DEVICE
    summary = "a recogniser in one file"
    def load(self):
        return SystemInfo(name=self.name, kind=self.kind, model_bytes=0, parameters=0, chunk_s=0.1, citation="test")
    def open(self, request):
        return Said()
"""


def test_a_file_in_systems_is_found_without_any_other_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one_file.py").write_text(ONE_FILE)
    monkeypatch.setattr(systems, "__path__", [*systems.__path__, str(tmp_path)])
    assert "one-file" in discovery.recognisers()
    assert discovery.find_recogniser("one-file").load().name == "one-file"


def entries(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    found = [EntryPoint(f"e{n}", value, RECOGNISER_GROUP) for n, value in enumerate(values)]
    monkeypatch.setattr(discovery, "entry_points", lambda group: found)


def test_a_class_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, "scripted:Scripted")
    assert list(discovery.recognisers()) == ["scripted"]


def test_a_broken_import_is_an_error_not_a_missing_row(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, "no_such_package:Thing")
    with pytest.raises(EdgeSpeechError, match="e0 = no_such_package:Thing"):
        discovery.recognisers()


def test_an_entry_that_is_no_recogniser_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, "pathlib:Path")
    with pytest.raises(EdgeSpeechError, match="expected a Recogniser class or a package of them"):
        discovery.recognisers()


def test_two_recognisers_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import scripted

    class Twin(scripted.Scripted):
        pass

    monkeypatch.setattr(scripted, "Twin", Twin, raising=False)
    entries(monkeypatch, "scripted:Scripted", "scripted:Twin")
    with pytest.raises(EdgeSpeechError, match="two recognisers are named 'scripted'"):
        discovery.recognisers()


def test_unknown_names_and_options_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, "scripted:Scripted")
    with pytest.raises(EdgeSpeechError, match="name is 'nobody', expected one of scripted"):
        discovery.find_recogniser("nobody")
    with pytest.raises(
        EdgeSpeechError, match=r"--option for scripted: name is 'colour', expected (one of|none)"
    ):
        discovery.find_recogniser("scripted", colour="red")
