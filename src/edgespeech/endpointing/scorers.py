"""All scorers by name, with constructors for each utterance. A new scorer is added here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from pydantic import BaseModel, ConfigDict, Field

from edgespeech.audio.vad import SileroDetector
from edgespeech.endpointing.networks import ArbitratedScore, LearnedScore, Networks, Thresholds
from edgespeech.endpointing.policy import EndPointer, Gate, Guarded, Scorer, Shared
from edgespeech.endpointing.silence import DecoderSilence, DetectedSilence, EnergySilence
from edgespeech.errors import EdgeSpeechError

Scorers = Mapping[str, Callable[[], Scorer]]


class Bounds(BaseModel):
    """Bounds on the decoder's pause, in seconds.

    Attributes:
        shortest_s: learned scorers do not fire below it; see `Guarded`.
        longest_s: they fire from it on.
        first_pass_s: of the decoder's silence that starts the second pass.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    shortest_s: float = Field(0.0, ge=0)
    longest_s: float = Field(3.0, ge=0)
    first_pass_s: float = Field(0.12, ge=0)

    def guard(self, scorer: Scorer) -> Scorer:
        """The scorer within these bounds."""
        return Guarded(scorer, shortest_s=self.shortest_s, longest_s=self.longest_s)


def silence_policy(final_s: float, ahead_s: float, *, again: bool = False) -> EndPointer:
    """The decoder's silence as a dual end-pointer.

    Args:
        final_s: pause of the decoder that ends the utterance.
        ahead_s: how much shorter the pause is that publishes a speculative result.
        again: see `EndPointer`.
    """
    silence = DecoderSilence()  # it has no state: both gates may share it
    return EndPointer(Gate(silence, final_s), Gate(silence, final_s - ahead_s), again=again)


def chosen_thresholds(networks: Networks) -> Thresholds:
    """The thresholds of the networks.

    Raises:
        EdgeSpeechError: they have none.
    """
    if networks.thresholds is None:
        raise EdgeSpeechError(
            "end-pointing: thresholds of the networks are missing, expected a final and a speculative one"
        )
    return networks.thresholds


def learned_policy(networks: Networks, *, again: bool = False) -> EndPointer:
    """The learned scorer as a dual end-pointer, with its stored thresholds.

    Args:
        networks: of the recogniser.
        again: see `EndPointer`.

    Raises:
        EdgeSpeechError: the networks have no thresholds.
    """
    learned = Shared(Bounds().guard(LearnedScore(networks.learned)))
    final, speculative = chosen_thresholds(networks)
    return EndPointer(Gate(learned, final), Gate(learned, speculative), again=again)


def scorers(networks: Networks, bounds: Bounds) -> tuple[Scorers, dict[str, str]]:
    """The available scorers, and the reasons for missing ones.

    Args:
        networks: of the recogniser whose frames are scored.
        bounds: of those that use hypotheses.

    Returns:
        By name: the constructor of each; and the reasons.
    """
    found: dict[str, Callable[[], Scorer]] = {
        "decoder silence": DecoderSilence,
        "energy silence": EnergySilence,
        "Silero silence": lambda: DetectedSilence(SileroDetector()),
        "learned": lambda: bounds.guard(LearnedScore(networks.learned)),
        "token": lambda: bounds.guard(LearnedScore(networks.token)),
        "arbitrated": lambda: bounds.guard(
            ArbitratedScore(DecoderSilence(), bounds.first_pass_s, networks.arbitrator)
        ),
    }
    missing = {}
    if find_spec("faster_whisper") is None:
        del found["Silero silence"]
        missing["Silero silence"] = "faster-whisper, which carries it, is not installed"
    return found, missing
