# ruff: noqa: RUF001  the signs of the phonetic alphabet are meant
import hashlib
import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from edgespeech.corpora.weights import Weights
from edgespeech.errors import EdgeSpeechError
from edgespeech.synthesis import integer_graph, kokoro
from edgespeech.synthesis.kokoro import Kokoro, Speaker, VoiceSpec, prompt

STYLE = np.arange(510 * 256, dtype="<f4").tobytes()


@pytest.fixture
def talker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kokoro:
    """A synthesiser with one voice and no model, for what comes before the model."""
    digest = hashlib.sha256(STYLE).hexdigest()
    found = Weights(folder=tmp_path, files={"model.onnx": "0" * 64}, n_bytes=0, source="", citation="")
    monkeypatch.setattr(kokoro, "resolve_weights", lambda name, path: found)
    monkeypatch.setattr(kokoro, "load_voices", lambda: {"af_one": VoiceSpec(split="test", sha256=digest)})
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("EDGESPEECH_KOKORO", str(tmp_path / "given"))
    return Kokoro()


def one(name: str = "af_one") -> Speaker:
    return Speaker(((name, 1.0),))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("i'd like a latte", "I'd like a latte."),
        ("what time is it", "what time is it?"),
        ("wake me at seven a m", "wake me at seven AM."),
        ("my name is a n n", "my name is A, N, N."),
        ("can i have a coffee", "can I have a coffee?"),
    ],
)
def test_prompts(text: str, said: str) -> None:
    assert prompt(text) == said


@pytest.mark.parametrize("text", ["", " ", "'", "seven 30", "Hello", "日本", "a<b", "café"])
def test_a_sentence_that_cannot_be_synthesised(talker: Kokoro, text: str) -> None:
    with pytest.raises(EdgeSpeechError, match="speech synthesis: sentence"):
        talker.say(text, one(), 1.0)


def test_letters_are_pronounced_by_their_names(talker: Kokoro) -> None:
    vowel = talker.tokens("a", "en-us")
    assert len(talker.tokens("b a b", "en-us")) > len(talker.tokens("bab", "en-us"))
    assert vowel[:3] == talker.tokens("a b", "en-us")[:3]  # "ay", not "uh"


def test_accents_differ(talker: Kokoro) -> None:
    assert talker.tokens("tomato", "en-us") != talker.tokens("tomato", "en-gb")


def test_a_sentence_that_is_too_long(talker: Kokoro) -> None:
    with pytest.raises(EdgeSpeechError, match="1 to 509 tokens"):
        talker.tokens("coffee " * 100, "en-us")


def test_a_token_that_the_model_lacks(talker: Kokoro, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = {k: v for k, v in talker._tokenizer.vocab.items() if k != "k"}
    monkeypatch.setattr(talker._tokenizer, "vocab", vocabulary)
    with pytest.raises(EdgeSpeechError, match="token of 'coffee' is 'k'"):
        talker.tokens("coffee", "en-us")


def test_an_unknown_voice(talker: Kokoro) -> None:
    with pytest.raises(EdgeSpeechError, match="voice is 'xx_none', expected one of af_one"):
        talker.say("hello", one("xx_none"), 1.0)


def test_a_voice_that_is_not_there(talker: Kokoro) -> None:
    with pytest.raises(EdgeSpeechError, match=r"af_one not found.*npm pack kokoro-js@1\.2\.1"):
        talker.say("hello", one(), 1.0)


def test_a_damaged_voice(talker: Kokoro, tmp_path: Path) -> None:
    (tmp_path / "given" / "voices").mkdir(parents=True)
    (tmp_path / "given" / "voices" / "af_one.bin").write_bytes(STYLE[:-1])
    with pytest.raises(EdgeSpeechError, match=r"voice af_one: sha256 is .*expected"):
        talker.say("hello", one(), 1.0)


def test_voices_come_out_of_the_package(talker: Kokoro, tmp_path: Path) -> None:
    (tmp_path / "work" / "kokoro").mkdir(parents=True)
    with tarfile.open(tmp_path / "work" / "kokoro" / "kokoro-js-1.2.1.tgz", "w:gz") as package:
        member = tarfile.TarInfo("package/voices/af_one.bin")
        member.size = len(STYLE)
        package.addfile(member, io.BytesIO(STYLE))
    assert talker._style("af_one").shape == (510, 1, 256)


@pytest.mark.parametrize("speed", [0.0, 3.0, float("nan")])
def test_a_speed_out_of_range(talker: Kokoro, speed: float) -> None:
    with pytest.raises(EdgeSpeechError, match=r"speed is .*0\.5 to 2"):
        talker.say("hello", one(), speed)


@pytest.mark.parametrize(
    "parts", [(), (("a", 0.5),), (("a", 1.6), ("b", -0.6)), (("a", 1.0), ("b", 0.0)), (("a", float("nan")),)]
)
def test_blends_lie_within_a_bound(parts: tuple[tuple[str, float], ...]) -> None:
    with pytest.raises(EdgeSpeechError, match="add up to 1"):
        Speaker(parts)


def test_a_speaker_may_lie_beyond_the_blends() -> None:
    beyond = Speaker((("af_one", 1.2), ("bf_two", -0.2)))
    assert beyond.name == "af_one:1.20+bf_two:-0.20"
    assert beyond.accent == "en-us"


def test_speech_of_another_vocoder_has_another_key(talker: Kokoro) -> None:
    assert Kokoro(vocoder="onednn").key("hello", one(), 1.0) != talker.key("hello", one(), 1.0)


def test_speakers_have_names_and_accents() -> None:
    blend = Speaker((("bf_two", 0.6), ("af_one", 0.4)))
    assert blend.name == "bf_two:0.60+af_one:0.40"
    assert blend.accent == "en-gb"
    assert one().name == "af_one"
    assert one().accent == "en-us"
    assert Speaker((("af_one", 1.0),), ("z_as_s", "h_dropped")).name == "af_one~z_as_s~h_dropped"


def test_a_speaker_s_habits_change_the_speech_and_the_key(talker: Kokoro) -> None:
    habitual = Speaker((("af_one", 1.0),), ("th_as_stops",))
    assert talker.tokens("this thing", "en-us", habitual.habits) != talker.tokens("this thing", "en-us")
    assert talker.key("this thing", habitual, 1.0) != talker.key("this thing", one(), 1.0)
    tapped = Speaker((("af_one", 1.0),), ("th_as_hisses",))
    assert talker.key("this thing", habitual, 1.0) != talker.key("this thing", tapped, 1.0)


def test_the_key_covers_everything(talker: Kokoro) -> None:
    keys = {
        talker.key("hello", one(), 1.0),
        talker.key("hello there", one(), 1.0),
        talker.key("hello", one(), 1.1),
    }
    assert len(keys) == 3
    assert talker.key("hello", one(), 1.0) in keys


def sounds(talker: Kokoro, text: str, accent: str) -> str:
    names = {number: sound for sound, number in talker._tokenizer.vocab.items()}
    return "".join(names[token] for token in talker.tokens(text, accent))


@pytest.mark.parametrize(
    ("text", "castile", "america"),
    [
        ("caza", "kˈaθa.", "kˈasa."),  # distinction of c and z from s, or seseo
        ("casa", "kˈasa.", "kˈasa."),
        ("cena", "θˈena.", "sˈena."),
        ("lluvia", "ʎˈuβja.", "ʝˈuβja."),  # ll by itself, or yeísmo
        ("jueves", "xwˈeβes.", "xwˈeβes."),
        ("perro", "pˈero.", "pˈero."),  # a trill between vowels is rr,
        ("pero", "pˈeɾo.", "pˈeɾo."),  # a tap r
        ("señor", "seɲˈoɾ.", "seɲˈoɾ."),
        ("guerra", "ɡˈera.", "ɡˈera."),  # a u that is silent,
        ("agua", "ˈaɣwa.", "ˈaɣwa."),  # and one that is not
    ],
)
def test_the_varieties_of_spanish(talker: Kokoro, text: str, castile: str, america: str) -> None:
    assert sounds(talker, text, "es") == castile
    assert sounds(talker, text, "es-419") == america


@pytest.mark.parametrize(
    ("text", "stressed"),
    [
        ("camino", "kamˈino."),  # the last syllable but one: a vowel, n or s ends the word
        ("cantan", "kˈantan."),
        ("ciudad", "sjuðˈad."),  # the last: another consonant does
        ("reloj", "relˈox."),
        ("canción", "kansjˈon."),  # an accent says otherwise
        ("teléfono", "telˈefono."),
        ("árbol", "ˈaɾβol."),
        ("día", "dˈia."),  # and parts two vowels
    ],
)
def test_stress_follows_the_spelling(talker: Kokoro, text: str, stressed: str) -> None:
    assert sounds(talker, text, "es-419") == stressed


def test_a_question_is_asked_in_spanish(talker: Kokoro) -> None:
    assert sounds(talker, "qué hora es", "es").endswith("?")
    assert sounds(talker, "a qué hora abre", "es").endswith("?")
    assert sounds(talker, "dime qué hora es", "es").endswith(".")
    assert sounds(talker, "que sea grande", "es").endswith(".")


def test_a_name_of_the_other_language_has_its_own_sounds(talker: Kokoro) -> None:
    alone = sounds(talker, "john", "en-us").removesuffix(".")
    assert alone in sounds(talker, "llama a {john}", "es-419")
    assert alone not in sounds(talker, "llama a john", "es-419")
    spanish = sounds(talker, "joaquín", "es-419").removesuffix(".")
    assert sounds(talker, "call {joaquín} please", "en-us").split()[1] == spanish


def test_the_marks_are_not_part_of_the_sentence() -> None:
    assert kokoro.prompts("what is {la hora}", "en-us") == [("what is", "en-us"), ("la hora?", "es-419")]
    assert kokoro.prompts("i like {maría} too", "en-gb") == [
        ("I like", "en-gb"),
        ("maría", "es"),
        ("too.", "en-gb"),
    ]
    assert kokoro.prompts("tea", "en-us") == [(prompt("tea"), "en-us")]


@pytest.mark.parametrize(
    ("text", "accent", "wrong"),
    [
        ("señor", "en-us", "ñ"),
        ("call {señor}", "es", "ñ"),  # in braces stands English
        ("i'd like", "es", "'"),
        ("llama {a", "es", "{"),
        ("{}", "es", "{"),
        ("São", "es", "S"),
        ("hola", "fr", "accent"),
        ("", "es", "words"),
    ],
)
def test_words_that_are_not_of_the_language(text: str, accent: str, wrong: str) -> None:
    with pytest.raises(EdgeSpeechError, match=re.escape(wrong)):
        kokoro.prompts(text, accent)


def test_speakers_of_spanish() -> None:
    ana = Speaker((("ef_dora", 0.6), ("af_one", 0.4)), spanish="es-419")
    assert ana.accent == "es-419"
    assert ana.name == "ef_dora:0.60+af_one:0.40@es-419"
    with pytest.raises(EdgeSpeechError, match="spanish is 'es-mx', expected one of es, es-419"):
        Speaker((("ef_dora", 1.0),), spanish="es-mx")  # type: ignore[arg-type]  # what it refuses
    with pytest.raises(EdgeSpeechError, match="habits of English"):
        Speaker((("ef_dora", 1.0),), habits=("th_as_stops",), spanish="es")


def test_the_key_of_cached_english_speech_is_what_it_was(
    talker: Kokoro, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integer_graph, "cuts_off", lambda: False)
    said = (
        talker.model_sha256,
        [(hashlib.sha256(STYLE).hexdigest(), "1.000000")],
        "en-us",
        "hello.",
        "1.000000",
    )
    key = talker.key("hello", one(), 1.0)
    assert key == hashlib.sha256(repr(said).encode()).hexdigest()
    monkeypatch.setattr(integer_graph, "cuts_off", lambda: True)
    assert talker.key("hello", one(), 1.0) != key, (
        "speech of before weights were unsigned there is not used again"
    )
    spanish = Speaker((("af_one", 1.0),), spanish="es")
    keys = {talker.key(text, spanish, 1.0) for text in ("llama a john", "llama a {john}")}
    assert len(keys) == 2
