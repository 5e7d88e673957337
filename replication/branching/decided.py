"""What the arbitrators decide: in silence and in speech, in noise, and what a slow device waits for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from replication.branching.arms import BranchArms
from replication.branching.hearing import Mix, Sound, decisions, sounds_of
from replication.branching.listening import FRAME_S, cost_of, ratio_of_shares

from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.utterances import Noise, Utterances, utterances_of
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.checks import Row
from edgespeech.metrics.statistics import bootstrap_ratio, paired_ratio_difference
from edgespeech.model.branching_checkpoint import TrainedBranching
from edgespeech.model.switching import backlog

GREYS = 16
"""Shades of a spectrogram."""
_BANDS = 4
"""Mel bands of a row of a spectrogram."""


def models_of(arms: BranchArms, first: str) -> dict[int, TrainedBranching]:
    """An arm's models by their seeds.

    Raises:
        EdgeSpeechError: none is trained on this machine.
    """
    found: dict[int, TrainedBranching] = {}
    reasons = []
    for arm in arms.of(first):
        try:
            found[arm.seed] = arms.trained(arm)
        except EdgeSpeechError as error:
            reasons.append(str(error))
    if not found:
        raise EdgeSpeechError(reasons[0])
    return found


def silence(
    models: Sequence[TrainedBranching],
    sounds: Sequence[Sound],
    speakers: Sequence[str | None],
    seed: int,
) -> Row:
    """How likely a slow frame is in silence, over how likely it is in speech.

    Raises:
        EdgeSpeechError: no utterance says where its speech begins and ends.
    """
    places = [place for place, one in enumerate(sounds) if one.sos is not None]
    if not places:
        raise EdgeSpeechError("no utterance of the corpora says where its speech begins and ends")
    sums = np.zeros((4, len(places)))
    for trained in models:
        told = decisions(trained.model, [sounds[place] for place in places])
        sums += np.array([_in_and_out(one, sounds[at]) for one, at in zip(told, places, strict=True)]).T
    groups = [speakers[place] for place in places]
    row = ratio_of_shares((sums[0], sums[1]), (sums[2], sums[3]), groups, seed)
    shares = {
        "in_silence": float(sums[0].sum() / sums[1].sum()),
        "in_speech": float(sums[2].sum() / sums[3].sum()),
    }
    return {**row, "seeds": len(models), "shares": shares}


def _in_and_out(mix: Mix, sound: Sound) -> tuple[float, float, float, float]:
    """Slow and all decisions outside of speech, and in speech."""
    frames = np.arange(len(mix))
    inside = (frames >= (sound.sos or 0)) & (frames < (sound.eos or 0))
    return (
        float(mix[~inside].sum()), float(mix[~inside].size), float(mix[inside].sum()), float(mix[inside].size),
    )  # fmt: skip


def noisy(
    models: Sequence[TrainedBranching], settings: Mapping[str, Any], count: int | None, seed: int
) -> Iterator[Row]:
    """By how much the share of slow frames rises from each ratio of speech to noise to the next lower one.

    Args:
        models: of the arm's seeds.
        settings: `corpus`, `noise` (a recording of the corpus `noise`), `snr_db` from the highest to the lowest, and
            `rule`.
        count: of utterances.
        seed: of the noise and the intervals.

    Raises:
        EdgeSpeechError: the corpus or the noise is not available.
    """
    before: NDArray[np.float64] | None = None
    name = "clean"
    for snr in (None, *settings["snr_db"]):
        noise = None if snr is None else noise_of(settings["noise"], snr, settings["rule"])
        found = utterances_of({settings["corpus"]: "basic"}, seed=seed, count=count, noise=noise)
        slow, total = _slow(models, sounds_of(found, FRAME_S))
        own = "clean" if snr is None else f"{snr:g} dB"
        share = float(slow.sum() / total.sum())
        if before is not None:
            told = paired_ratio_difference(slow, before, total, _speakers(found), seed=seed)
            yield {
                "claim": "branching.noise",
                "detail": f"{own} against {name}",
                "measured": told.difference,
                "n": len(total),
                "seeds": len(models),
                **told.interval.as_row(),
            }
        yield {"noise_share": {"condition": own, "slow": share}}
        before, name = slow, own


def noise_of(name: str, snr_db: float, rule: str) -> Noise:
    """A recording of the corpus `noise` at a ratio.

    Raises:
        EdgeSpeechError: there is no such recording.
    """
    manifest = manifest_of("noise")
    for item in manifest.utterances:
        if item.id == name:
            return Noise(path=manifest.audio_path(item), snr_db=snr_db, rule=rule, sha256=item.sha256)
    raise bad("branching", "noise", name, "one of " + ", ".join(item.id for item in manifest.utterances))


def _slow(
    models: Sequence[TrainedBranching], sounds: Sequence[Sound]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slow and all decisions of each utterance, over all models."""
    slow, total = np.zeros(len(sounds)), np.zeros(len(sounds))
    for trained in models:
        told = decisions(trained.model, sounds)
        slow += [float(one.sum()) for one in told]
        total += [one.size for one in told]
    return slow, total


def _speakers(utterances: Utterances) -> list[str | None]:
    return [None if one.speaker is None else f"{one.corpus} {one.speaker}" for one in utterances]


def waits(
    plain: Sequence[TrainedBranching],
    aware: Sequence[TrainedBranching],
    sounds: Sequence[Sound],
    speakers: Sequence[str | None],
    load: float,
    seed: int,
) -> Row:
    """What is left to do at the end of speech, of the latency-aware arm over the plain one, on one device.

    Args:
        plain: models of the plain cost loss.
        aware: of the one that counts the backlog.
        sounds: the utterances; those that do not say where their speech ends are left out.
        speakers: of each.
        load: what the device does in the time of a frame, in mean costs of the plain arm.
        seed: of the interval.

    Raises:
        EdgeSpeechError: no utterance says where its speech ends, or the plain arm is never behind.
    """
    places = [place for place, one in enumerate(sounds) if one.eos]
    if not places:
        raise EdgeSpeechError("no utterance of the corpora says where its speech ends")
    chosen = [sounds[place] for place in places]
    costs = [_costs(models, chosen) for models in (plain, aware)]
    every = np.concatenate([np.concatenate(one) for one in costs[0]])
    rate = load * float(every.mean())
    behind = [
        np.mean(
            [[_left(cost, sound, rate) for cost, sound in zip(one, chosen, strict=True)] for one in models],
            axis=0,
        )
        for models in costs
    ]
    if not behind[0].sum():
        raise EdgeSpeechError("the plain arm is never behind at the end of speech on this device")
    row: Row = {
        "measured": float(behind[1].sum() / behind[0].sum()),
        "n": len(places),
        "seeds": min(len(plain), len(aware)),
        "waits_s": [float(one.mean()) * FRAME_S for one in behind],
        "device_rate": rate,
    }
    if len(places) < 2:
        return row
    told = bootstrap_ratio(behind[1], behind[0], [speakers[place] for place in places], seed=seed)
    return {**row, **told.as_row()}


def _costs(models: Sequence[TrainedBranching], sounds: Sequence[Sound]) -> list[list[NDArray[np.float64]]]:
    return [
        [
            cost_of(trained.model.transcriber.macs, mix, arbitrated=True)
            for mix in decisions(trained.model, sounds)
        ]
        for trained in models
    ]


def _left(cost: NDArray[np.float64], sound: Sound, rate: float) -> float:
    """Frames of work that are left at the end of speech."""
    last = min(sound.eos or 0, len(cost)) - 1
    return float(backlog(torch.from_numpy(cost), rate)[last])


def streamed(trained: TrainedBranching, sounds: Sequence[Sound]) -> tuple[int, float]:
    """Utterances whose decisions frame by frame, by the chosen branch alone, are those of the whole, with outputs equal
    up to rounding; and the largest difference of an output.
    """
    transcriber, stack = trained.model.transcriber, trained.model.config.stack
    same, largest = 0, 0.0
    with torch.inference_mode():
        for one in sounds:
            features = torch.from_numpy(one.features)
            count = len(features) // stack
            whole, _, _ = transcriber(features[None], torch.tensor([len(features)]))
            wanted = transcriber.decide(features[None])[0] > 0
            state, outputs, chosen = transcriber.start(), [], []
            for t in range(count):
                output, picked, state = transcriber.step(features[stack * t : stack * (t + 1)], state)
                outputs.append(output)
                chosen.append(picked)
            away = float((torch.stack(outputs) - whole[0]).abs().max())
            largest = max(largest, away)
            same += bool(torch.equal(torch.stack(chosen), wanted)) and away < 1e-3
    return same, largest


def shades(sound: Sound, stack: int) -> list[str]:
    """A spectrogram as lines of hexadecimal digits, the lowest band first, a digit a frame: f is loudest."""
    steps = sound.frames
    whole = sound.features[: steps * stack].reshape(steps, stack, -1, _BANDS).mean(axis=(1, 3))
    low, high = np.quantile(whole, 0.05), whole.max()
    grey = np.clip(np.rint((whole - low) / max(high - low, 1e-6) * (GREYS - 1)), 0, GREYS - 1).astype(int)
    return ["".join(f"{shade:x}" for shade in band) for band in grey.T]
