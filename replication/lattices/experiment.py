"""Measure lattices: gains of path merging, and sizes of messages; one record, rendered into this README.

edgespeech replicate lattices                  # seeded subsets, minutes
edgespeech replicate lattices --profile full   # make the second pass's language model first; every utterance
edgespeech replicate lattices --render         # render the newest record only
edgespeech replicate lattices --second-pass    # make what the second pass needs, and no more
edgespeech replicate lattices --words          # make the messages' vocabulary again, from training texts

`rescore.py` in this folder has the steps that make the language model and the scales of the second pass.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from replication.lattices import rescore, tables
from replication.lattices.lists import LatticeCodec, listed, same_bytes
from replication.lattices.second_pass import heard_with_lattices, measured, second_pass_table
from torch import Tensor

from edgespeech.arms.configuration import start_model
from edgespeech.arms.peer_bench import Prepared, prepared
from edgespeech.audio.codec import FRAME, PACKET_BYTES, flac_bytes, pcm_bytes
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.core.places import project_root, work_dir
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.utterances import utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import NO_RECORD, Page, Row, View, parser
from edgespeech.lattice.codec import Precision, Vocabulary, encode, rounded
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import best_path, n_best, oracle, prune
from edgespeech.lattice.search import LatticeDecoder, log_probability
from edgespeech.metrics.statistics import bootstrap_quantile, bootstrap_ratio, paired_ratio_difference
from edgespeech.metrics.word_errors import errors_against
from edgespeech.model.checkpoint import Trained, load_model
from edgespeech.records.records import without_paths
from edgespeech.report.page import run
from edgespeech.search.hypothesis import words_of
from edgespeech.secondpass.folder import LM, second_pass_folder
from edgespeech.secondpass.model import load_lm
from edgespeech.secondpass.scoring import InternalScorer, RememberingScorer
from edgespeech.secondpass.tuning import load_scales
from edgespeech.steps.store import make
from edgespeech.text.normalise import normalisers
from edgespeech.training.speech import trainable

HERE = Path(__file__).parent
WORDS = HERE / "words.txt"
SCALES = HERE / "scales.yaml"
PLOT = HERE / "bytes.svg"
NORMALISER = "basic"
"""Word by word, as an oracle needs it; the recogniser's output and all three references are plain words."""


class Heard(NamedTuple):
    """An utterance as input of the search: its transcription, with shape `(T, J)`, and its words."""

    spoken: Prepared
    encoded: Tensor
    words: list[str]


class Found(NamedTuple):
    """A search of an utterance: its lattice; word errors of the search's best hypothesis, of the lattice's best path
    and oracle, and of the oracles of n-best lists; and the number of joiner evaluations.
    """

    lattice: Lattice
    errors: int
    best: int
    oracle: int
    lists: tuple[int, ...]
    evaluations: int


class Bench:
    """The shared state of a measurement.

    Raises:
        EdgeSpeechError: there is no model, or no corpus.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.trained = load_model(start_model())
        self.vocabulary = Vocabulary.load(WORDS)
        self.heard: list[Heard] = []
        self.missing: list[Row] = []
        amount = config[config["profile"]]["utterances"]
        normalise = normalisers()[NORMALISER]
        utterances = utterances_of(dict.fromkeys(config["corpora"], NORMALISER), seed=self.seed, count=amount)
        for corpus, reason in utterances.missing.items():
            self.missing.append({"part": f"lattices of {corpus}", "skipped": reason})
        with TemporaryDirectory() as scratch:
            for item in prepared(utterances, Path(scratch)):
                self.heard.append(Heard(item, transcribed(self.trained, item), normalise(item.text).split()))
            self.audio = [audio_bytes(one.spoken) for one in self.heard]
        self.found = {
            (beam, merge): [searched(self.trained, one, beam, merge, config["n_best"]) for one in self.heard]
            for beam in config["beams"]
            for merge in config["merges"]
        }

    @property
    def seed(self) -> int:
        """The seed of subsets and intervals."""
        return int(self.config["seed"])

    @property
    def ours(self) -> list[Found]:
        """The searches whose lattices are sent."""
        return self.found[self.config["ours"]["beam"], self.config["ours"]["merge"]]

    @property
    def codec(self) -> LatticeCodec:
        """How lattices are sent."""
        ours = self.config["ours"]
        precision = Precision(step_exponent=ours["step_exponent"])
        return LatticeCodec(width=ours["width"], vocabulary=self.vocabulary, precision=precision)

    @property
    def words(self) -> list[int]:
        """The number of words of each utterance."""
        return [len(one.words) for one in self.heard]

    def rate(self, errors: Sequence[int]) -> float:
        """The rate over all utterances."""
        return sum(errors) / sum(self.words)

    def difference(self, a: Sequence[int], b: Sequence[int]) -> Row:
        """The paired difference of two word error rates, A minus B, with its interval, as fields of a row."""
        paired = paired_ratio_difference(a, b, self.words, self.groups, seed=self.seed)
        return {"measured": paired.difference, **paired.interval.as_row()}

    def ratio(self, a: Sequence[int], b: Sequence[int]) -> Row:
        """The ratio of the sums of A and B, with its interval, as fields of a row; 1 if B sums to 0."""
        if not sum(b):
            return {"measured": 1.0}
        return {"measured": sum(a) / sum(b), **bootstrap_ratio(a, b, self.groups, seed=self.seed).as_row()}

    @property
    def groups(self) -> list[str | None]:
        """The speaker of each utterance."""
        return [one.spoken.speaker for one in self.heard]


@torch.inference_mode()
def transcribed(trained: Trained, item: Prepared) -> Tensor:
    """The whole utterance's transcription, with shape `(T, J)`."""
    stack = trained.model.config.stack
    frames = len(item.features) // stack * stack
    encoded, _, _ = trained.model.transcribe(
        torch.from_numpy(item.features[None, :frames]), torch.tensor([frames])
    )
    return encoded[0]


def audio_bytes(item: Prepared) -> dict[str, int]:
    """Bytes of an utterance as Opus (whole packets of a constant rate), FLAC and PCM."""
    with np.load(item.file) as stored:
        samples = stored["samples"][: round(item.duration_s * SAMPLE_RATE)]
    packets = math.ceil(len(samples) / FRAME)
    return {"Opus": packets * PACKET_BYTES, "FLAC": flac_bytes(samples), "PCM": pcm_bytes(samples)}


def searched(trained: Trained, one: Heard, beam: int, merge: int | None, lists: Sequence[int]) -> Found:
    """One utterance's search and its lattice."""
    decoder = LatticeDecoder(trained.model, beam, merge)
    decoder.accept(one.encoded)
    pieces = trained.tokeniser.pieces
    lattice = decoder.lattice(pieces)
    said = words_of(decoder.best, pieces, trained.model.config.frame_s, one.spoken.duration_s)
    paths = [path.text for path in n_best(lattice, max(lists))]
    errors = word_errors(one.words, [" ".join(word.text for word in said), *paths])
    return Found(
        lattice,
        errors[0],
        errors[1],
        oracle(lattice, one.words)[1],
        tuple(min(errors[1 : 1 + length]) for length in lists),
        decoder.evaluations,
    )


def word_errors(reference: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Errors of several texts against one reference."""
    return errors_against(" ".join(reference), texts)


def lattices(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """All measurements; parts that cannot run are recorded with reasons."""
    torch.set_num_threads(1)
    bench = Bench({**config, "seed": seed})
    yield from bench.missing
    for part in (merging, sizes, rounding, scores, second_pass):
        try:
            yield from part(bench)
        except EdgeSpeechError as error:
            yield {"part": part.__name__, "skipped": without_paths(str(error))}


def merging(bench: Bench) -> Iterator[Row]:
    """Every arm against the unmerged one of the same beam, and of all beams."""
    n = len(bench.heard)
    yield {"arms": arms(bench)}
    for (beam, merge), found in bench.found.items():
        if merge is None:
            continue
        plain, detail = bench.found[beam, None], f"beam {beam}, {tables.merged_labels(merge)}"
        ours, theirs = ([one.oracle for one in some] for some in (found, plain))
        common = {"detail": detail, "n": n}
        yield {"claim": "lattices.oracle", **common, **bench.difference(ours, theirs)}
        left = bench.ratio(ours, theirs)
        ends = {"low": 1 - left["high"], "high": 1 - left["low"]} if "high" in left else {}
        yield {"claim": "lattices.oracle_gain", **common, **left, "measured": 1 - left["measured"], **ends}
        errors = ([one.errors for one in some] for some in (found, plain))
        yield {"claim": "lattices.no_loss", **common, **bench.difference(*errors)}
    yield from fewer(bench)


def fewer(bench: Bench) -> Iterator[Row]:
    """The merged search with the fewest joiner evaluations among those that reach an unmerged one's oracle."""
    cost = {arm: sum(one.evaluations for one in found) for arm, found in bench.found.items()}
    reached = {arm: sum(one.oracle for one in found) for arm, found in bench.found.items()}
    for beam in bench.config["beams"]:
        plain = (beam, None)
        able = [arm for arm in cost if arm[1] is not None and reached[arm] <= reached[plain]]
        if able:
            least = min(able, key=cost.__getitem__)
            detail = f"beam {least[0]}, {tables.merged_labels(least[1])}, against beam {beam} unmerged"
            yield {
                "claim": "lattices.evaluations",
                "detail": detail,
                "n": len(bench.heard),
                **bench.ratio(*([one.evaluations for one in bench.found[arm]] for arm in (least, plain))),
            }


def arms(bench: Bench) -> list[Row]:
    """The arms by corpus, for `replication.lattices.tables`."""
    made: list[Row] = []
    for corpus in dict.fromkeys(one.spoken.corpus for one in bench.heard):
        places = [place for place, one in enumerate(bench.heard) if one.spoken.corpus == corpus]
        for (beam, merge), found in bench.found.items():
            some = [found[place] for place in places]
            made.append(
                {
                    "corpus": corpus,
                    "beam": beam,
                    "merge": merge,
                    "utterances": len(some),
                    "words": sum(bench.words[place] for place in places),
                    **{
                        key: sum(getattr(one, key) for one in some)
                        for key in ("errors", "best", "oracle", "evaluations")
                    },
                    "n_best": {
                        str(length): sum(one.lists[at] for one in some)
                        for at, length in enumerate(bench.config["n_best"])
                    },
                    "arcs": sum(len(one.lattice.arcs) for one in some),
                    "audio_s": sum(bench.heard[place].spoken.duration_s for place in places),
                }
            )
    return made


def sizes(bench: Bench) -> Iterator[Row]:
    """Bytes and oracles of lattices with different pruning, compared with n-best lists and audio."""
    ours, codec = bench.config["ours"], bench.codec
    whole = [one.lattice for one in bench.ours]
    opus = [audio["Opus"] for audio in bench.audio]
    n = len(whole)

    def point(kind: str, setting: float, some: Sequence[Lattice]) -> Row:
        taken = [codec.size(lattice) for lattice in some]
        least = [oracle(lattice, one.words)[1] for lattice, one in zip(some, bench.heard, strict=True)]
        return {
            "kind": kind,
            "setting": setting,
            "bytes": statistics.fmean(taken),
            "median": statistics.median(taken),
            "share": statistics.median(size / sound for size, sound in zip(taken, opus, strict=True)),
            "words": sum(bench.words),
            "oracle": sum(least),
        }

    points = [
        point("lattice", width, [prune(one, width) for one in whole]) for width in bench.config["widths"]
    ]
    points += [
        point("n-best", count, [listed(one, count) for one in whole]) for count in bench.config["lists"]
    ]
    kept = [prune(one, ours["width"]) for one in whole]
    here = point("lattice", ours["width"], kept)
    shares = [[codec.size(one) / sound] for one, sound in zip(kept, opus, strict=True)]
    beside = {codec: statistics.fmean(audio[codec] for audio in bench.audio) for codec in bench.audio[0]}
    detail = (
        f"beam {ours['beam']}, {tables.merged_labels(ours['merge'])}, paths within {ours['width']:g} nats; "
        f"median {here['median']:.0f} bytes"
    )
    yield {
        "claim": "lattices.bytes",
        "detail": detail,
        "measured": here["share"],
        **bootstrap_quantile(shares, 0.5, bench.groups, seed=bench.seed).as_row(),
        "n": n,
        "points": points,
        "audio": beside,
    }
    least = [oracle(lattice, one.words)[1] for lattice, one in zip(kept, bench.heard, strict=True)]
    gained, whole_gain = (
        [one.best - low for one, low in zip(bench.ours, lows, strict=True)]
        for lows in (least, [one.oracle for one in bench.ours])
    )
    if sum(whole_gain):
        yield {"claim": "lattices.gain", "detail": detail, "n": n, **bench.ratio(gained, whole_gain)}
    # Every further path needs at least one arc or end.
    lists = [
        same_bytes(lattice, codec.size(one), codec, longest=len(one.arcs) + 1)
        for lattice, one in zip(whole, kept, strict=True)
    ]
    theirs = [oracle(lattice, one.words)[1] for lattice, one in zip(lists, bench.heard, strict=True)]
    yield {
        "claim": "lattices.n_best",
        "detail": f"oracle {100 * bench.rate(least):.2f} % against {100 * bench.rate(theirs):.2f} %",
        "n": n,
        **bench.difference(least, theirs),
    }


def rounding(bench: Bench) -> Iterator[Row]:
    """The effect of rounding scores on the best path."""
    ours = bench.config["ours"]
    kept = [prune(one.lattice, ours["width"]) for one in bench.ours]
    plain = [best_path(lattice).text for lattice in kept]

    def tried(precision: Precision) -> tuple[Row, list[int]]:
        texts = [best_path(rounded(lattice, precision)).text for lattice in kept]
        taken = [len(encode(lattice, bench.vocabulary, precision)) for lattice in kept]
        errors = [word_errors(one.words, [text])[0] for one, text in zip(bench.heard, texts, strict=True)]
        return {
            "step_exponent": precision.step_exponent,
            "prediction": precision.prediction,
            "bytes": statistics.fmean(taken),
            "median": statistics.median(taken),
            "changed": sum(a != b for a, b in zip(texts, plain, strict=True)) / len(kept),
            "words": sum(bench.words),
            "errors": sum(errors),
        }, errors

    rows = [tried(Precision(step_exponent=exponent))[0] for exponent in bench.config["step_exponents"]]
    rows.append(tried(Precision(step_exponent=ours["step_exponent"], prediction=True))[0])
    here, errors = tried(bench.codec.precision)
    yield {
        "claim": "lattices.quantised",
        "detail": f"steps of {bench.codec.precision.step:g} nats; {100 * here['changed']:.1f} % have another best path",
        **bench.difference(errors, [one.best for one in bench.ours]),
        "n": len(kept),
        "roundings": rows,
    }


def scores(bench: Bench) -> Iterator[Row]:
    """Scores of paths against exact ones, with limited and with full predictor context."""
    count = min(bench.config["scored"]["utterances"], len(bench.heard))
    some = [bench.heard[place * len(bench.heard) // count] for place in range(count)]
    yield from score_rows(bench, bench.trained, some, bench.trained.model.config.predictor)
    folder = work_dir() / bench.config["recurrent"]
    if not folder.is_dir():
        reason = f"no model whose predictor sees all labels in {bench.config['recurrent']} of the work folder"
        yield {"claim": "lattices.scores", "detail": "lstm", "skipped": reason}
        return
    recurrent = load_model(folder)
    heard = [Heard(one.spoken, transcribed(recurrent, one.spoken), one.words) for one in some]
    yield from score_rows(bench, recurrent, heard, recurrent.model.config.predictor)


def score_rows(bench: Bench, trained: Trained, heard: Sequence[Heard], kind: str) -> Iterator[Row]:
    """One row per arm with the configured beam."""
    for merge in bench.config["merges"]:
        squares: list[float] = []
        for one in heard:
            decoder = LatticeDecoder(trained.model, bench.config["ours"]["beam"], merge)
            decoder.accept(one.encoded)
            paths = n_best(decoder.lattice(trained.tokeniser.pieces), bench.config["scored"]["paths"])
            encode_text = trained.tokeniser.encode
            exact = [log_probability(trained.model, one.encoded, encode_text(path.text)) for path in paths]
            squares += [
                (path.score - paths[0].score - true + exact[0]) ** 2
                for path, true in zip(paths[1:], exact[1:], strict=True)
            ]
        if squares:
            yield {
                "claim": "lattices.scores",
                "detail": f"predictor {kind}, {tables.merged_labels(merge)}; n: paths",
                "measured": math.sqrt(statistics.fmean(squares)),
                "n": len(squares),
            }


def second_pass(bench: Bench) -> Iterator[Row]:
    """The gain of rescoring, on a separately configured number of utterances."""
    config, ours = bench.config["second_pass"], bench.config["ours"]
    amount, pooled, normalise = config[bench.config["profile"]], config["pooled"], normalisers()[NORMALISER]
    scorer, scales = RememberingScorer(load_lm(second_pass_folder() / LM)), load_scales(SCALES)
    utterances = utterances_of(
        dict.fromkeys(bench.config["corpora"], NORMALISER), seed=bench.seed, count=amount
    )
    heard = heard_with_lattices(bench.trained, utterances, normalise, beam=ours["beam"], merge=ours["merge"])
    internal = InternalScorer(bench.trained.model, bench.trained.tokeniser)
    yield from measured(heard, scorer, internal, scales, bench.codec, seed=bench.seed, pooled=pooled)


def write_words(config: dict[str, Any]) -> None:
    """Make the messages' vocabulary from training texts.

    Raises:
        EdgeSpeechError: one is missing, or is for evaluation only.
    """
    texts = (item.text for corpus in config["texts"] for item in trainable(corpus).utterances)
    Vocabulary.of(texts, config["most"]).save(WORDS)


def kept(record: View | None, key: str) -> Any:
    """The value of a key in the first row that has it, or None."""
    rows = [] if record is None else record["rows"]
    return next((row[key] for row in rows if key in row), None)


def block(key: str, made: Callable[[Any], str]) -> Callable[[View | None], str]:
    """A block of the page from the value of a key."""
    return lambda record: NO_RECORD if (found := kept(record, key)) is None else made(found)


def bytes_block(record: View | None) -> str:
    """Oracles against bytes."""
    points, audio = kept(record, "points"), kept(record, "audio")
    if points is None:
        return NO_RECORD
    return tables.bytes_table(points, audio)


def plots(record: View | None) -> dict[str, str]:
    """Oracles against bytes, by file name."""
    points = kept(record, "points")
    return {} if points is None else {PLOT.name: tables.bytes_plot(points, kept(record, "audio"))}


PAGE = Page(
    folder=HERE,
    records=project_root() / "results" / "lattices",
    checks=(lattices,),
    blocks={
        "arms": block("arms", tables.arms_table),
        "bytes": bytes_block,
        "rounding": block("roundings", tables.rounding_table),
        "second_pass": block("second_pass", second_pass_table),
    },
    plots=plots,
    first=lambda profile, only: rescore.steps() if profile == "full" else (),
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    options = parser(__doc__)
    options.add_argument("--words", action="store_true", help="make the vocabulary again, and no more")
    options.add_argument(
        "--second-pass", action="store_true", help="make and ship its language model, and no more"
    )
    given = options.parse_args(words)
    if given.second_pass:
        for step in rescore.steps():
            make(step)
        return
    if given.words:
        config = load_yaml(HERE / "config.yaml")
        write_words(config["vocabulary"])
        return
    run(PAGE, render_only=True)
