"""Coverage-guided fuzzing of everything in Python that reads what others wrote.

`python fuzz/targets.py NAME FOLDER [options of libFuzzer]` gives changed bytes to one reader until the time is over
(`-max_total_time=SECONDS`); FOLDER keeps the inputs that reached something new. `python fuzz/targets.py --list` names
the readers. Any exception but `EdgeSpeechError`, a crash, a minute on one input or 2 GB of memory is a fault, and its
input stays behind as `NAME-crash-*`, `NAME-timeout-*` or `NAME-oom-*`. Needs atheris, which there is for Linux.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import random
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import atheris
import numpy as np
from safetensors import safe_open
from safetensors.torch import save

ROOT = Path(__file__).parents[1]

with atheris.instrument_imports(include=["edgespeech"]):
    from edgespeech.audio.codec import OpusDecoder
    from edgespeech.cloud import access, protocol
    from edgespeech.corpora.manifest import load_manifest
    from edgespeech.endpointing.networks import _ABOUT, load_networks, new_networks, save_networks
    from edgespeech.errors import EdgeSpeechError
    from edgespeech.lattice import codec as lattice_codec
    from edgespeech.lattice.lattice import Arc, Final, arranged
    from edgespeech.model.tokeniser import Tokeniser
    from edgespeech.packed.codes import quantise
    from edgespeech.packed.edge_file import EdgeFile, checksum, read_edge
    from edgespeech.records.records import load_record
    from edgespeech.text.grammar import load_grammar
    from edgespeech.updates import deltas, update_file


@dataclass(frozen=True, slots=True)
class Reader:
    """One fuzz target.

    Attributes:
        read: takes any bytes; may raise `EdgeSpeechError`, and nothing else.
        seeds: good inputs to start from.
    """

    read: Callable[[bytes], object]
    seeds: Callable[[], Iterator[bytes]]


_HEADS: dict[str, Any] = {}
_VOCABULARY = lattice_codec.Vocabulary(("turn", "on", "the", "lights", "a"))
_FOLDER = tempfile.TemporaryDirectory()
_FILE = Path(_FOLDER.name) / "input"


def _file(content: bytes, name: str = "input") -> Path:
    path = _FILE.with_name(name)
    path.write_bytes(content)
    return path


def _edge(content: bytes) -> None:
    """As it is, and with its size and checksum made right, so that what is behind these is reached."""
    with contextlib.suppress(EdgeSpeechError):
        read_edge(_file(content))
    if len(content) >= 64:
        body = content[64 : len(content) - len(content) % 64]
        head = bytearray(content[:64])
        head[16:24] = (64 + len(body)).to_bytes(8, "little")
        head[48:56] = checksum(body).to_bytes(8, "little")
        read_edge(_file(bytes(head) + body))


def _edge_seeds() -> Iterator[bytes]:
    sys.path.insert(0, str(ROOT / "fuzz"))
    import seeds

    with tempfile.TemporaryDirectory() as folder:
        seeds.main(Path(folder))
        for path in sorted(Path(folder).glob("*.edge")):
            yield path.read_bytes()


def _lattice(content: bytes) -> None:
    """A body with the right mark and checksum; what is read must be written as the same message."""
    told = bytes([lattice_codec.VERSION]) + _VOCABULARY.sha256[:2] + content
    message = told + zlib.crc32(told, zlib.crc32(_VOCABULARY.sha256)).to_bytes(4, "little")
    with contextlib.suppress(EdgeSpeechError):
        lattice_codec.decode(content, _VOCABULARY)
    lattice_codec.decode(message, _VOCABULARY, max_arcs=4096)


def _lattice_seeds() -> Iterator[bytes]:
    for texts in (["turn"], ["turn on the lights"], ["a", "the"], ["zebra crossing", "a zebra"]):
        arcs: list[Arc] = []
        ends: list[Final] = []
        node = 0
        for text in texts:
            last = 0
            for word in text.split():
                node += 1
                arcs.append(Arc(last, node, word, -1.5, start=last * 2, end=node * 2))
                last = node
            ends.append(Final(last, -0.5))
        yield lattice_codec.encode(arranged(arcs, ends), _VOCABULARY)[3:-4]


def _networks(content: bytes) -> None:
    """As a file; and as what a file with good tensors has about them."""
    with contextlib.suppress(EdgeSpeechError):
        load_networks(_file(content), "0" * 64)
    if content[:1] == b"{":
        with contextlib.suppress(UnicodeDecodeError):
            load_networks(_file(save(_HEADS, {_ABOUT: content.decode()})), "0" * 64)


def _networks_seeds() -> Iterator[bytes]:
    save_networks(_FILE, new_networks(4, 5, 3, "0" * 64, seed=0))
    yield _FILE.read_bytes()
    with safe_open(_FILE, framework="pt") as file:
        _HEADS.update({key: file.get_tensor(key).clone() for key in file.keys()})  # noqa: SIM118 (not a mapping)
        yield file.metadata()[_ABOUT].encode()


def _tokeniser(content: bytes) -> None:
    tokeniser = Tokeniser(content)
    tokeniser.encode("turn on the lights")
    tokeniser.decode([len(tokeniser) - 1])


def _tokeniser_seeds() -> Iterator[bytes]:
    yield Tokeniser.train(["turn on the lights", "turn off the lights in the kitchen"], 40).proto


def _record(content: bytes) -> None:
    load_record(_file(content, "record.json"))


def _record_seeds() -> Iterator[bytes]:
    paths = sorted((ROOT / "results" / "records").glob("*.json"), key=lambda path: path.stat().st_size)
    for path in paths[:3]:
        plain = json.loads(path.read_bytes())
        yield json.dumps(plain).encode()
        yield json.dumps({**plain, "utterances_file": None, "utterances_sha256": None}).encode()


def _manifest(content: bytes) -> None:
    _file(b"", "audio.wav")
    load_manifest(_file(content, "manifest.jsonl"))


def _manifest_seeds() -> Iterator[bytes]:
    one = {"audio_filepath": "audio.wav", "duration": 1.5, "text": "turn on the lights"}
    more = {"id": "u", "speaker": "s", "split": "test", "offset": 0.0, "source": "x", "text_raw": "Turn on."}
    yield json.dumps(one).encode()
    yield b"\n".join(json.dumps({**one, **extra}).encode() for extra in ({}, more))
    yield zlib.compress(json.dumps(one).encode(), wbits=31)


def _grammar(content: bytes) -> None:
    """A small one also says a sentence, which it must understand."""
    grammar = load_grammar(_file(content, "grammar.yaml"))
    if len(content) < 2000:
        said = grammar.generate(random.Random(0))
        if grammar.parse(said.text) is None:
            raise AssertionError(f"{said.text!r} is said and not understood")


def _grammar_seeds() -> Iterator[bytes]:
    for path in sorted((ROOT / "data_manifests" / "grammars").glob("*.yaml")):
        yield path.read_bytes()
    yield b"about: x\nintents: {i: {rule: r}}\nrules:\n  r: ['[so] (make | have) {s}']\n  s: {tea: [brew], it: []}\n"


_DECODER = OpusDecoder()


def _protocol(content: bytes) -> None:
    """The first byte says which reader of the protocol gets the rest."""
    which, rest = content[:1], content[1:]
    if which in b"\x00\x01":
        with contextlib.suppress(UnicodeDecodeError):  # websockets refuses such a message itself
            (protocol.parse_client if which == b"\x00" else protocol.parse_server)(rest.decode())
    elif which == b"\x02":
        protocol.unpack_audio(rest)
    elif which == b"\x03":
        protocol.unpack_request(rest)
    elif which == b"\x04":
        access.read_tokens(_file(rest, "tokens"))
    else:
        for packet in protocol.unpack_audio(rest):
            _DECODER.decode(packet)


def _protocol_seeds() -> Iterator[bytes]:
    yield b"\x00" + protocol.encode(protocol.Hello(context=["latte"])).encode()
    yield b"\x01" + protocol.encode(protocol.Final(segment=0, text="a", audio_s=1.0)).encode()
    yield b"\x02" + protocol.pack_audio([b"\x08ab", b"\x08cd"])
    yield b"\x03" + protocol.pack_request(3, b"lattice")
    yield b"\x04one\ntwo\n"
    yield b"\x05" + protocol.pack_audio([b"\x0b\x06" + bytes(6)])


_OLD = EdgeFile({"name": "old"}, {"a": np.ones((3, 70), np.float32), "b": np.zeros((1, 9), np.float32)})
_SIZES = 1 << 16
"""Bytes of the models that fuzzed updates make."""


def _update(content: bytes) -> None:
    """As it is; and with size and checksum made right, applied to a small model."""
    with contextlib.suppress(EdgeSpeechError):
        update_file.parse_update(content, "update", most=_SIZES)
    if len(content) >= 104:
        told = bytearray(content[:-4])
        told[16:24] = len(content).to_bytes(8, "little")
        sealed = bytes(told) + zlib.crc32(told).to_bytes(4, "little")
        update_file.rebuilt(update_file.parse_update(sealed, "update", most=_SIZES), _OLD)


def _update_seeds() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    codes = quantise(rng.standard_normal((3, 70), np.float32), bits=4, mask=rng.random((3, 70)) < 0.5)
    steps = deltas.Sparse(rng.integers(-1, 2, (3, 70)), 0.25)
    thin = deltas.LowRank(np.ones((3, 1), np.int64), np.ones((1, 70), np.int64), np.zeros(1, np.int64), 0.5)
    shared = deltas.Hashed(rng.integers(-9, 10, 7), 0.5, 1)
    ends = _FILE.with_name("old"), _FILE.with_name("new")
    for path, content in zip(ends, (b"old", b"new"), strict=True):
        path.write_bytes(content)
    for kind, said in enumerate((None, steps, thin, shared)):
        new = {"a": codes if said is None else _OLD.tensors["a"], "b": _OLD.tensors["b"]}
        body = update_file.body(_OLD, new, {"name": "new"}, {"a": said})
        kind_of = update_file.Kind(kind)
        yield update_file.sealed(kind_of, len(new), body, old=ends[0], new=ends[1], said=0)[1]


READERS = {
    "edge": Reader(_edge, _edge_seeds),
    "lattice": Reader(_lattice, _lattice_seeds),
    "networks": Reader(_networks, _networks_seeds),
    "tokeniser": Reader(_tokeniser, _tokeniser_seeds),
    "record": Reader(_record, _record_seeds),
    "manifest": Reader(_manifest, _manifest_seeds),
    "grammar": Reader(_grammar, _grammar_seeds),
    "protocol": Reader(_protocol, _protocol_seeds),
    "update": Reader(_update, _update_seeds),
}


def main(arguments: list[str]) -> int:
    """Fuzz one reader; libFuzzer ends the process."""
    if arguments == ["--list"]:
        print(*READERS)
        return 0
    if len(arguments) < 2 or arguments[0] not in READERS:
        print(f"expected --list, or one of {', '.join(READERS)} and a folder", file=sys.stderr)
        return 2
    reader, folder = READERS[arguments[0]], Path(arguments[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(reader.seeds()):
        (folder / f"seed-{number}").write_bytes(seed)
    logging.disable()

    def read(content: bytes) -> None:
        with contextlib.suppress(EdgeSpeechError), contextlib.redirect_stdout(io.StringIO()):
            reader.read(content)

    options = ["-timeout=60", "-rss_limit_mb=2048", f"-artifact_prefix={folder.parent}/{arguments[0]}-"]
    atheris.Setup([sys.argv[0], str(folder), *options, *arguments[2:]], read)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
