"""Speech from text by Kokoro-82M: 54 voices, blends of their style vectors, and speakers a little beyond these blends.

The model comes from a folder (an argument, or the environment variable EDGESPEECH_KOKORO) or from installed
packages; the voices from the same folder or from `.work/kokoro`, as `voices/*.bin` or as the npm package
`kokoro-js-1.2.1.tgz` (`npm pack kokoro-js@1.2.1`). Both are verified against `data_manifests/`.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgespeech.contracts import Samples
from edgespeech.core.config import explain
from edgespeech.core.places import manifests_dir, work_dir
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.weights import resolve_weights
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.synthesis.habits import with_habits
from edgespeech.text import spanish

RATE = 24_000
"""Sample rate of the output."""
MAX_TOKENS = 509
BEYOND = 0.5
"""Weights of voices are between minus this and one plus this."""
VocoderName = Literal["onnx", "onednn", "envelope"]
"""What computes the last part of the model: the graph itself, the same in oneDNN (`edgespeech.synthesis.vocoder`), or
pulses and noise in its place (`edgespeech.synthesis.envelope`)."""
_STYLES = 510
_STYLE_SIZE = 256
_ARCHIVE = "kokoro-js-1.2.1.tgz"
_QUESTION = re.compile(
    r"(what|what's|where|where's|when|who|who's|how|how's|is|are|do|does|did|will|can|could|would|may|am)\b"
)
_LETTERS = re.compile(r"\b[a-z](?: [a-z])+\b")
_ACRONYMS = {"a m", "p m", "a c", "a t m"}
_SYLLABIC = "\N{COMBINING VERTICAL LINE BELOW}"
"""The only symbol of espeak-ng's English that is not in the model's training data."""
_SAYABLE = re.compile(r"[a-z' ]+")
SpanishVariety = Literal["es", "es-419"]
"""The variety of Spanish by espeak-ng's name: `es` distinguishes "casa" from "caza" and "cayó" from "calló", as in
Castile; `es-419` distinguishes neither, as in most of America. Stress follows the spelling in both."""
OTHER_LANGUAGE = {"en-us": "es-419", "en-gb": "es", "es": "en-gb", "es-419": "en-us"}
"""By whose rules the marked phrases of a sentence are pronounced."""
_SPANISH: tuple[str, ...] = get_args(SpanishVariety)
_MARKED = re.compile(r"\{([^{}]+)\}")


class VoiceSpec(BaseModel):
    """A voice: the hash of its style vectors, and whether it is for training, dev or test."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    split: Literal["train", "dev", "test"]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class VoiceList(BaseModel):
    """`data_manifests/voices/kokoro.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    package: str
    voices: dict[str, VoiceSpec]


def load_voices() -> dict[str, VoiceSpec]:
    """Every known voice by name.

    Raises:
        EdgeSpeechError: the list is missing or not valid.
    """
    path = voices_file()
    try:
        return VoiceList.model_validate(load_yaml(path)).voices
    except OSError as error:
        raise bad("voices", "file", str(path), "the list of voices") from error
    except ValidationError as error:
        raise explain(str(path), error) from error


def voices_file() -> Path:
    """The file with the list of voices."""
    return manifests_dir() / "voices" / "kokoro.yaml"


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice, or a blend of voices, with its pronunciation.

    Attributes:
        parts: the voices' names with weights that add up to 1, the heaviest first. A negative weight takes a speaker
            beyond the blends, away from that voice.
        habits: deviations from the pronunciation rules (`edgespeech.synthesis.habits`).
        spanish: the variety of Spanish that the speaker speaks; None: English.
    """

    parts: tuple[tuple[str, float], ...]
    habits: tuple[str, ...] = ()
    spanish: SpanishVariety | None = None

    def __post_init__(self) -> None:
        weights = [weight for _, weight in self.parts]
        within = all(weight and -BEYOND <= weight <= 1 + BEYOND for weight in weights)
        if not weights or not within or abs(sum(weights) - 1) > 1e-6:
            raise bad("speaker", "weights", weights, f"-{BEYOND} to {1 + BEYOND}, not 0, that add up to 1")
        if self.spanish is not None and self.spanish not in get_args(SpanishVariety):
            raise bad("speaker", "spanish", self.spanish, "one of " + ", ".join(get_args(SpanishVariety)))
        if self.spanish is not None and self.habits:
            raise bad("speaker", "habits", self.habits, "none in Spanish: they are habits of English")

    @property
    def name(self) -> str:
        """As in a manifest: `am_eric`, `am_eric:0.60+bf_lily:0.40~th_as_stops~r_tapped`, or `ef_dora@es-419`."""
        parts = self.parts
        voice = parts[0][0] if len(parts) == 1 else "+".join(f"{name}:{weight:.2f}" for name, weight in parts)
        return "~".join((voice if self.spanish is None else f"{voice}@{self.spanish}", *self.habits))

    @property
    def accent(self) -> str:
        """The variety of English, `en-gb` for British voices, else `en-us`; or that of Spanish."""
        if self.spanish is not None:
            return self.spanish
        return "en-gb" if self.parts[0][0].startswith("b") else "en-us"


def prompt(text: str) -> str:
    """A sentence in the form that the pronunciation rules expect: spelled letters separated, "I" in upper case, a full
    stop.

    Raises:
        EdgeSpeechError: the sentence has something other than words in lower case.
    """
    return _written(text) + ("?" if _QUESTION.match(text) else ".")


def _written(text: str) -> str:
    """English words without the mark that ends a sentence; raises as `prompt`."""
    if not _SAYABLE.fullmatch(text) or not re.search("[a-z]", text):
        wrong = sorted(set(re.sub(r"[a-z' ]", "", text))) or text
        raise bad("speech synthesis", f"sentence {text!r}", wrong, "words of a to z and apostrophes")
    return re.sub(r"\bi\b", "I", _LETTERS.sub(_say_letters, text))


def prompts(text: str, accent: str) -> list[tuple[str, str]]:
    """A sentence in pieces, each with the rules by which it is pronounced.

    Args:
        text: words in lower case; those of the other language stand in braces: `llama a {john smith}`.
        accent: `en-us`, `en-gb`, `es` or `es-419`.

    Raises:
        EdgeSpeechError: a piece has something other than words in lower case of its language.
    """
    if accent not in OTHER_LANGUAGE:
        raise bad("speech synthesis", "accent", accent, "one of " + ", ".join(OTHER_LANGUAGE))
    found = []
    for number, words in enumerate(_MARKED.split(text)):
        if words.strip():
            own = OTHER_LANGUAGE[accent] if number % 2 else accent
            found.append(
                (spanish.sayable(words.strip()) if own in _SPANISH else _written(words.strip()), own)
            )
    if not found:
        raise bad("speech synthesis", "sentence", text, "words")
    question = spanish.is_question(text) if accent in _SPANISH else _QUESTION.match(text) is not None
    last, own = found[-1]
    return [*found[:-1], (last + ("?" if question else "."), own)]


def _say_letters(match: re.Match[str]) -> str:
    letters = match[0]
    return letters.upper().replace(" ", "") if letters in _ACRONYMS else letters.upper().replace(" ", ", ")


class Kokoro:
    """The synthesiser, on one thread. Loading takes about a second.

    Args:
        folder: of the model and the voices; by default EDGESPEECH_KOKORO, packages and `.work/kokoro`.
        vocoder: what computes the last part of the model; all but `onnx` set torch to one thread.

    Raises:
        EdgeSpeechError: the model or the voices are not found, or have another hash.
    """

    def __init__(self, folder: Path | None = None, vocoder: VocoderName = "onnx") -> None:
        if folder is None and (named := os.environ.get("EDGESPEECH_KOKORO")):
            folder = Path(named)
        self._folder = folder
        self._vocoder = vocoder
        own = folder if folder is not None and (folder / "model.onnx").is_file() else None
        weights = resolve_weights("kokoro", own)
        self.model_sha256 = weights.files["model.onnx"]
        self._model = weights.folder / "model.onnx"
        self._known = load_voices()
        self._styles: dict[str, NDArray[np.float32]] = {}

    @cached_property
    def _graph(self) -> Callable[[dict[str, Any], int], Samples]:
        """A function from the model's inputs and a seed to samples."""
        import onnx

        model = onnx.load(self._model)
        if self._vocoder == "onnx":
            whole = session(model)
            return lambda inputs, seed: np.asarray(whole.run(None, inputs)[0], dtype=np.float32).ravel()
        import torch

        from edgespeech.synthesis import envelope, vocoder

        torch.set_num_threads(1)
        if self._vocoder == "envelope":
            filtered = envelope.EnvelopeVocoder(envelope.load_network())
            front = session(vocoder.cut(model, envelope.INPUTS))

            def say(inputs: dict[str, Any], seed: int) -> Samples:
                features, style, pitch = front.run(None, inputs)
                return filtered(features, style, pitch, seed)

            return say
        exact = vocoder.Vocoder(
            {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer},
            {node.name: list(node.input) for node in model.graph.node},
        )
        front = session(vocoder.cut(model))
        return lambda inputs, seed: exact(*front.run(None, inputs))

    @cached_property
    def _tokenizer(self) -> Any:
        from kokoro_onnx.tokenizer import Tokenizer

        return Tokenizer()

    def tokens(self, text: str, accent: str, habits: Sequence[str] = ()) -> list[int]:
        """The model's input for a sentence.

        Args:
            text: words in lower case, as `prompts` takes them.
            accent: likewise.
            habits: of the speaker.

        Raises:
            EdgeSpeechError: the sentence cannot be synthesised: other characters, a sound without a token, or more than
                509 tokens.
        """
        vocabulary = self._tokenizer.vocab  # its construction also tells phonemizer where espeak-ng is
        phonemizer: Any = import_module("phonemizer")
        said = [
            str(phonemizer.phonemize(words, rules, preserve_punctuation=True, with_stress=True)).strip()
            for words, rules in prompts(text, accent)
        ]
        sounds = with_habits(" ".join(said).replace(_SYLLABIC, ""), habits)
        unknown = sorted(set(sounds) - vocabulary.keys())
        if unknown:
            raise bad(
                "speech synthesis", f"token of {text!r}", "".join(unknown), "sounds that the model knows"
            )
        if not 0 < len(sounds) <= MAX_TOKENS:
            raise bad(
                "speech synthesis", f"length of {text[:40]!r}", len(sounds), f"1 to {MAX_TOKENS} tokens"
            )
        return [vocabulary[sound] for sound in sounds]

    def say(self, text: str, speaker: Speaker, speed: float) -> Samples:
        """Synthesise a sentence.

        Args:
            text: words in lower case.
            speaker: the voice.
            speed: 0.5 to 2; above 1 is faster.

        Returns:
            Samples at 24 kHz, with shape `(N,)`.

        Raises:
            EdgeSpeechError: an unknown voice, or a sentence that cannot be synthesised (see `tokens`).
        """
        if not 0.5 <= speed <= 2:
            raise bad("speech synthesis", "speed", speed, "0.5 to 2")
        inputs = self.inputs(text, speaker, speed)
        return self._graph(inputs, int(self.key(text, speaker, speed)[:8], 16))

    def inputs(self, text: str, speaker: Speaker, speed: float) -> dict[str, NDArray[Any]]:
        """The inputs of the graph for a sentence; raises as `say`."""
        tokens = self.tokens(text, speaker.accent, speaker.habits)
        style = np.zeros((1, _STYLE_SIZE), np.float32)
        for voice, weight in speaker.parts:
            style += np.float32(weight) * self._style(voice)[len(tokens)]
        return {
            "tokens": np.array([[0, *tokens, 0]], dtype=np.int64),
            "style": style,
            "speed": np.array([speed], dtype=np.float32),
        }

    def key(self, text: str, speaker: Speaker, speed: float) -> str:
        """A hash of everything that `say` depends on, for a cache."""
        from edgespeech.synthesis.integer_graph import cuts_off

        voices = [(self._spec(voice).sha256, f"{weight:.6f}") for voice, weight in speaker.parts]
        pieces = prompts(text, speaker.accent)
        words = pieces[0][0] if len(pieces) == 1 else repr(pieces)
        what = (self.model_sha256, voices, speaker.accent, words, f"{speed:.6f}")
        # Habits are part of the key only if there are any, so that older cached speech keeps its key.
        said: tuple[object, ...] = what
        if speaker.habits:
            said = (*what, self.tokens(text, speaker.accent, speaker.habits))
        if cuts_off():
            said = ("unsigned", said)  # what such a processor said of signed weights is another thing
        if self._vocoder != "onnx":
            from edgespeech.synthesis import envelope, vocoder

            version = (vocoder if self._vocoder == "onednn" else envelope).VERSION
            return hashlib.sha256(repr((version, said)).encode()).hexdigest()
        return hashlib.sha256(repr(said).encode()).hexdigest()

    def _spec(self, voice: str) -> VoiceSpec:
        if voice not in self._known:
            raise bad("speech synthesis", "voice", voice, "one of " + ", ".join(self._known))
        return self._known[voice]

    def _style(self, voice: str) -> NDArray[np.float32]:
        """A voice's style vectors, with shape `(510, 1, 256)`, row = number of tokens."""
        if voice not in self._styles:
            wanted = self._spec(voice).sha256
            data = self._voice_bytes(voice)
            if (found := hashlib.sha256(data).hexdigest()) != wanted:
                raise EdgeSpeechError(f"voice {voice}: sha256 is {found}, expected {wanted}")
            self._styles[voice] = np.frombuffer(data, dtype="<f4").reshape(_STYLES, 1, _STYLE_SIZE)
        return self._styles[voice]

    def _voice_bytes(self, voice: str) -> bytes:
        folders = [f for f in (self._folder, work_dir() / "kokoro") if f is not None]
        for folder in folders:
            single, archive = folder / "voices" / f"{voice}.bin", folder / _ARCHIVE
            if single.is_file():
                return single.read_bytes()
            if archive.is_file():
                try:
                    with tarfile.open(archive) as package:
                        member = package.extractfile(f"package/voices/{voice}.bin")
                        if member is not None:
                            return member.read()
                except (tarfile.TarError, KeyError) as error:
                    raise EdgeSpeechError(f"{archive}: has no voice {voice}: {error}") from error
        places = " or ".join(f"{f.name}/voices/{voice}.bin or {f.name}/{_ARCHIVE}" for f in folders)
        hint = "get it with: npm pack kokoro-js@1.2.1, and name its folder in EDGESPEECH_KOKORO"
        raise EdgeSpeechError(f"voice {voice} not found (looked for {places}); {hint}")


def session(model: Any) -> Any:
    """A graph of the model in onnxruntime, on one thread, rewritten for the fast kernels."""
    import onnxruntime

    from edgespeech.synthesis.integer_graph import fast

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = fast(model).SerializeToString()
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
