"""The configuration of a training run: model, speech, augmentation, optimisation."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from edgespeech.audio.augment_config import AugmentConfig
from edgespeech.core.config import explain
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.biasing import MAX_PHRASES
from edgespeech.model.config import ModelConfig

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if not all(math.isfinite(end) for end in ends) or ends[0] > ends[1]:
        raise ValueError("two finite numbers, the lower first")
    return ends


Duration = Annotated[float, Field(ge=0, le=10)]
Span = Annotated[tuple[Duration, Duration], AfterValidator(_rising)]
"""The shortest and the longest of a range of seconds."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Speech to train on.

    Attributes:
        corpus: a split's name, or a manifest (`.jsonl`).
        repeat: how often each utterance is used per epoch; 0.5 takes a seeded half, a different one each epoch.
        sounds_only: the language of the corpus, as named by espeak-ng (`de`, `fr-fr`): its sounds are learned and not
            its words. None learns the words, which are English.
        teacher_only: learn from the teacher alone (`edgespeech.training.teacher`); the utterances need no words.
        language: that is spoken, for a run that learns to name it (`languages` of `TrainConfig`).
    """

    corpus: str
    repeat: Annotated[float, Field(gt=0)] = 1.0
    sounds_only: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[a-z0-9]+)*$")] | None = None
    teacher_only: bool = False
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[a-z0-9]+)*$")] | None = None

    @property
    def learns_words(self) -> bool:
        """Whether the words of its utterances are learned."""
        return self.sounds_only is None and not self.teacher_only


class Sounds(_Strict):
    """The auxiliary loss on phonetic sounds (`edgespeech.training.sounds`).

    Attributes:
        layer: number of the transcriber's layers below the output.
        weight: of the loss.
    """

    layer: Positive
    weight: Annotated[float, Field(gt=0)] = 1.0


class Teach(_Strict):
    """The auxiliary loss on a teacher's features (`edgespeech.training.teacher`).

    Attributes:
        name: of the teacher.
        layer: number of the transcriber's layers below the output.
        weight: of the loss, which is a mean over the transcriber's frames.
        loss: `cosine`, or `l1_cosine`, which adds the mean absolute difference.
        dims: numbers that the teacher's features are reduced to.
        delay_frames: delay of the student in transcriber frames, since the teacher sees the whole utterance: the
            student may use this much future context.
    """

    name: str
    layer: Positive
    weight: Annotated[float, Field(gt=0)] = 1.0
    loss: Literal["cosine", "l1_cosine"] = "l1_cosine"
    dims: Annotated[int, Field(ge=1, le=1024)] = 128
    delay_frames: Annotated[int, Field(ge=0, le=25)] = 2


class Languages(_Strict):
    """The auxiliary loss on the language of each frame (`edgespeech.training.languages`).

    Attributes:
        weight: of the loss, which is a mean over frames and utterances.
        memory_s: see `edgespeech.model.languages.LanguageHead`.
    """

    weight: Annotated[float, Field(gt=0)] = 0.2
    memory_s: Annotated[float, Field(gt=0)] | None = 3.0


class Lists(_Strict):
    """Lists of phrases for a model that attends to them (`edgespeech.training.biasing`).

    Attributes:
        adapter: train the attention alone; the recogniser stays as it is.
        phrases: the most in a list; each step draws a number from 1 to this.
        present: probability that the phrase of an utterance is in its list, below 1.
        empty: share of the steps without a list.
        common: number of the speech's most frequent words that no phrase is made of alone; Le et al. (2021) leave out
            5,000.
        longest: words of a phrase that is no name.
        weight: of the loss on the entry that is attended to; 0 is without.
    """

    adapter: bool = False
    phrases: Annotated[int, Field(ge=1, le=MAX_PHRASES)] = 50
    present: Annotated[float, Field(ge=0, lt=1)] = 0.8
    empty: Annotated[float, Field(ge=0, lt=1)] = 0.1
    common: Annotated[int, Field(ge=0)] = 5000
    longest: Annotated[int, Field(ge=1, le=10)] = 3
    weight: Annotated[float, Field(ge=0)] = 0.1


class LeadIns(_Strict):
    """Streams: a lead-in before every utterance (`edgespeech.training.lead_in`). Runs that differ in `use` alone hear
    the same streams.

    Attributes:
        use: `context`: the transcriber hears the lead-in, and the loss is on the frames behind it alone. `labelled`:
            its words are learned too, by a loss of their own. `dropped`: the transcriber begins behind it.
        corpora: of the lead-ins, such as wake words.
        same: share of the utterances whose lead-in is another one by their speaker, where there is one.
        longest_s: of a lead-in by the same speaker.
        pause_s: behind what is spoken of the lead-in, and part of it.
        silence_s: after that, before the utterance, and part of that.
        after_s: behind the utterance, and part of it.
        others: corpora of other speakers' speech, which is over the stream.
        other: share of the utterances with such speech.
        snr_db: power of the utterance over that of the speech over it.
        over_all: share of that speech that is over the lead-in too.
    """

    use: Literal["context", "labelled", "dropped"]
    corpora: Annotated[tuple[str, ...], Field(min_length=1)]
    same: Share = 0.5
    longest_s: Annotated[float, Field(gt=0, le=10)] = 2.5
    pause_s: Span = (0.05, 0.4)
    silence_s: Span = (0.0, 0.4)
    after_s: Span = (0.0, 1.2)
    others: Annotated[tuple[str, ...], Field(min_length=1)]
    other: Share = 0.6
    snr_db: Annotated[tuple[float, float], AfterValidator(_rising)] = (0.0, 12.0)
    over_all: Share = 0.5


class WordErrors(_Strict):
    """Training for fewer expected word errors (`edgespeech.training.word_errors`).

    Attributes:
        hypotheses: the most in an utterance's list.
        beam: of the search that makes the lists.
        every: steps whose lists are made at once, by the model before them; 1 makes each step's as it comes.
        reference: the reference is in every list.
        transducer: weight of the transducer's loss, whose own is 1 without this.
        search: the native engine, in single precision; or `torch`, which finds the same and is slower.
    """

    hypotheses: Annotated[int, Field(ge=2, le=64)] = 4
    beam: Annotated[int, Field(ge=2, le=64)] = 8
    every: Positive = 20
    reference: bool = False
    transducer: Annotated[float, Field(ge=0)] = 0.05
    search: Literal["engine", "torch"] = "engine"


class Watch(_Strict):
    """Monitoring of a run: greedy word error rates of its averaged model at checkpoints.

    Attributes:
        every: steps between measurements, which need a checkpoint; also at the end.
        utterances: number from the run's own speech, spread evenly over its corpora, and from each tuning corpus.
        tuning: splits or manifests that the run is not trained on.
    """

    every: Positive = 1
    utterances: Positive = 60
    tuning: tuple[str, ...] = ()


def hashed_names(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration under the field names of its hash, so that renaming a field keeps earlier hashes valid."""
    return {"treatment" if name == "compressor" else name: value for name, value in values.items()}


class TrainConfig(_Strict):
    """A training run. Times in seconds of audio unless named otherwise.

    Attributes:
        name: of the run, and of its folder.
        seed: of all random draws.
        model: see `ModelConfig`; the vocabulary's size is the number of word pieces.
        init: a run's folder, whose averaged weights and word pieces are the initial ones, including the outputs that
            only training uses; or a model's folder, which has no such outputs; or several of either, whose models are
            averaged (`edgespeech.model.average`). A model that stacks another number of frames is adapted
            (`edgespeech.model.restack`). None: random weights.
        speech: corpora to train on.
        noises: corpora of recorded noises, without those for evaluation; None uses synthetic noise alone.
        rooms: corpus of measured impulse responses; None uses simulated rooms alone.
        augment: see `AugmentConfig`.
        clean_steps: number of steps with almost unchanged speech: with full augmentation from the start a model needs
            thousands of steps before it learns anything.
        ramp_steps: number of steps after those in which the augmentation's strength grows from 0 to 1.
        steps: number of updates for which learning rate and augmentation are scheduled.
        until: the run ends after this many steps, so that another run can continue from it; None: all steps.
        batch_s: of a batch, including padding.
        longest_s: utterances above this are refused.
        learning_rate: its maximum.
        warmup_steps: number of steps in which the learning rate grows linearly.
        decay_from: the share of all steps after which it falls linearly, to 2 % of the maximum.
        weight_decay: decoupled (AdamW).
        clip: maximum norm of the gradient.
        ctc: weight of the auxiliary CTC loss on the transcriber.
        ctc_only_steps: number of initial steps that train the transcriber alone, by CTC. A model that is trained as a
            whole from the start learns the language long before the acoustics.
        sounds: the auxiliary loss on a lower layer; None: without.
        teacher: the auxiliary loss on a teacher's features; None: without.
        languages: the auxiliary loss on the language, which every corpus then names; None: without. Its head is saved
            beside the model.
        biasing: the lists of a model that attends to phrases (`biasing` of `ModelConfig`); None: the model does not.
        word_errors: training for fewer word errors, which starts from a trained model; None: without.
        lead_ins: audio before every utterance, and other speech over both; None: utterances alone.
        average: decay of the exponential average of the weights, which are those of the saved model.
        precision: `bf16` computes the matrix products in bfloat16; weights, sums and losses stay in float32. `auto` is
            the faster of the two on the machine that starts the run, and is fixed then.
        patient_steps: share of the steps that surround each utterance with silences of up to `patient_s`. These are
            whole steps, since one long utterance makes the whole batch long.
        patient_s: the longest of those silences.
        loss_mib: memory bound of the transducer loss.
        fast_emit: FastEmit's lambda: the gradient of emitting a label is multiplied by 1 + lambda, so that labels come
            earlier (J. Yu et al., ICASSP 2021, arXiv:2010.11148). From 0 (off) to 1; NeMo recommends
            1e-4 to 1e-2.
        compressor: the compression technique applied during training, see `edgespeech.training.compressor`; none by
            default. Earlier files call it `treatment`.
        save_every: steps between checkpoints.
        watch: see `Watch`; the run's steps do not depend on it. None: without.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    seed: Annotated[int, Field(ge=0)]
    model: dict[str, Any]
    init: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    speech: Annotated[tuple[Source, ...], Field(min_length=1)]
    noises: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    rooms: str | None = None
    augment: dict[str, Any] = {}
    clean_steps: Annotated[int, Field(ge=0)] = 0
    ramp_steps: Annotated[int, Field(ge=0)] = 0
    steps: Positive
    until: Positive | None = None
    batch_s: Annotated[float, Field(gt=0)] = 100.0
    longest_s: Annotated[float, Field(gt=0)] = 25.0
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    decay_from: Share = 0.6
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Annotated[float, Field(gt=0)] = 5.0
    ctc: Annotated[float, Field(ge=0)] = 0.3
    ctc_only_steps: Annotated[int, Field(ge=0)] = 0
    sounds: Sounds | None = None
    teacher: Teach | None = None
    languages: Languages | None = None
    biasing: Lists | None = None
    word_errors: WordErrors | None = None
    lead_ins: LeadIns | None = None
    average: Annotated[float, Field(ge=0, lt=1)] = 0.999
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    patient_steps: Share = 0.0
    patient_s: Annotated[float, Field(gt=0, le=10)] = 3.0
    loss_mib: Annotated[float, Field(gt=0)] = 64.0
    fast_emit: Share = 0.0
    save_every: Positive = 500
    compressor: dict[str, Any] | None = Field(
        default=None, validation_alias=AliasChoices("compressor", "treatment")
    )
    watch: Watch | None = None

    @field_validator("model")
    @classmethod
    def _model(cls, values: dict[str, Any]) -> dict[str, Any]:
        ModelConfig.from_mapping(values)
        return values

    @field_validator("augment")
    @classmethod
    def _augment(cls, values: dict[str, Any]) -> dict[str, Any]:
        AugmentConfig.from_mapping(values)
        return values

    @field_validator("teacher")
    @classmethod
    def _teacher(cls, value: Teach | None) -> Teach | None:
        if value is not None:
            from edgespeech.training.teacher import teacher_kind

            teacher_kind(value.name)
        return value

    @field_validator("compressor")
    @classmethod
    def _compressor(cls, values: dict[str, Any] | None) -> dict[str, Any] | None:
        if values is not None:
            from edgespeech.training.compressor import check_compressor

            check_compressor(values)
        return values

    @model_validator(mode="after")
    def _steps(self) -> TrainConfig:
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps: {self.warmup_steps} must not be above steps, {self.steps}")
        if self.until is not None and self.until > self.steps:
            raise ValueError(f"until: {self.until} must not be above steps, {self.steps}")
        if self.compressor is not None and self.init is None:
            raise ValueError("init: a compressor expects a trained model to start from")
        if (self.biasing is None) != (self.model.get("biasing") is None):
            raise ValueError("biasing: expects biasing in model too, and the other way round")
        if self.biasing is not None and self.biasing.adapter:
            if self.init is None:
                raise ValueError("init: biasing.adapter expects a trained model to start from")
            if self.ctc or self.ctc_only_steps or self.sounds or self.teacher or self.compressor:
                raise ValueError(
                    "biasing.adapter: expects ctc: 0 and neither sounds, teacher nor compressor, which train the "
                    "recogniser that it leaves as it is"
                )
        self._check_word_errors()
        if self.lead_ins is not None and (
            self.sounds or self.teacher or self.languages or self.biasing or self.word_errors
        ):
            # They would see the frames of the lead-in.
            raise ValueError("lead_ins: expects neither sounds, teacher, languages, biasing nor word_errors")
        named = {source.language for source in self.speech}
        if self.languages is not None and (None in named or len(named) < 2):
            raise ValueError("languages: expects a language with every corpus of speech, and at least two")
        if self.sounds is None and any(source.sounds_only for source in self.speech):
            raise ValueError("sounds_only: expects the loss on sounds (sounds: {layer: ...})")
        if not any(source.learns_words for source in self.speech):
            raise ValueError("speech: expects a corpus whose words are learned (without sounds_only)")
        if any(source.teacher_only for source in self.speech):
            if self.teacher is None:
                raise ValueError(
                    "teacher_only: expects the loss on a teacher's features (teacher: {name: ...})"
                )
            if self.sounds is not None:
                raise ValueError("teacher_only: expects no loss on sounds, which such speech does not have")
        return self

    def _check_word_errors(self) -> None:
        settings = self.word_errors
        if settings is None:
            return
        if self.init is None:
            raise ValueError("init: word_errors expects a trained model to start from")
        if settings.hypotheses > settings.beam:
            expected = f"at most its beam, {settings.beam}"
            raise ValueError(f"word_errors.hypotheses: {settings.hypotheses}, expected {expected}")
        if self.ctc_only_steps or self.biasing or self.compressor:
            raise ValueError("word_errors: expects no ctc_only_steps, biasing or compressor")
        for name, steps in (("save_every", self.save_every), ("until", self.until)):
            # Lists are not saved: a run is resumed where new ones are made.
            if steps is not None and steps % settings.every and steps != self.steps:
                raise ValueError(
                    f"{name}: {steps}, expected a multiple of word_errors.every, {settings.every}"
                )

    @property
    def inits(self) -> tuple[str, ...]:
        """The folders of `init`: none, one or several."""
        if self.init is None:
            return ()
        return (self.init,) if isinstance(self.init, str) else self.init

    @property
    def sha256(self) -> str:
        """A hash of all settings that its steps depend on. Settings that were added later are left out if unused, so
        that older runs have the same hash.
        """
        told = hashed_names(self.model_dump(mode="json", exclude={"until", "watch"}))
        for name in ("treatment", "rooms", "teacher", "biasing", "languages", "word_errors", "lead_ins"):
            if told[name] is None:
                del told[name]
        if not self.fast_emit:
            del told["fast_emit"]
        if not self.patient_steps:
            del told["patient_steps"], told["patient_s"]
        for source in told["speech"]:
            if source["sounds_only"] is None:
                del source["sounds_only"]
            if not source["teacher_only"]:
                del source["teacher_only"]
            if source["language"] is None:
                del source["language"]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @property
    def speech_corpora(self) -> tuple[str, ...]:
        """All corpora of speech: what is learned, lead-ins, and what is over both; each once."""
        further = () if self.lead_ins is None else (*self.lead_ins.corpora, *self.lead_ins.others)
        return tuple(dict.fromkeys([*(source.corpus for source in self.speech), *further]))

    @property
    def noise_corpora(self) -> tuple[str, ...]:
        """The corpora of `noises`: none, one or several."""
        if self.noises is None:
            return ()
        return (self.noises,) if isinstance(self.noises, str) else self.noises

    @property
    def room_corpora(self) -> tuple[str, ...]:
        """The corpus of `rooms`: none or one."""
        return () if self.rooms is None else (self.rooms,)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        up = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        start = self.decay_from * self.steps
        down = 1.0 if step < start else max(0.02, 1 - 0.98 * (step - start) / max(self.steps - start, 1))
        return self.learning_rate * min(up, down)

    def strength(self, step: int) -> float:
        """The strength of a step's augmentation, 0 to 1."""
        ramped = step - self.clean_steps
        return min(1.0, max(0.0, ramped / self.ramp_steps)) if self.ramp_steps else float(ramped >= 0)


def load_train_config(path: Path) -> TrainConfig:
    """Read a run's file.

    Raises:
        EdgeSpeechError: missing, not YAML, an unknown key, a wrong type or a value out of range.
    """
    try:
        content = load_yaml(path)
    except OSError as error:
        raise bad("train", "config", str(path), "a file that exists") from error
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        raise explain(str(path), error) from error
    except EdgeSpeechError as error:
        raise EdgeSpeechError(f"{path}: {error}") from error
