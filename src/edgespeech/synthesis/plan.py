"""The utterances of a recipe: sentence, speaker, speed and level of each, drawn from its seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from edgespeech.errors import bad
from edgespeech.synthesis.habits import draw_habits
from edgespeech.synthesis.kokoro import Speaker
from edgespeech.synthesis.recipe import Recipe
from edgespeech.text.grammar import Grammar, Sentence, Split
from edgespeech.text.spoken import plain

_DRAWS_PER_SENTENCE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All parameters of one utterance before synthesis. Levels in dB of full scale, silences in seconds.

    `said` is the sentence with the phrases of the other language in braces (`edgespeech.synthesis.kokoro.prompts`).
    """

    id: str
    sentence: Sentence
    said: str
    speaker: Speaker
    speed: float
    level_db: float
    before_s: float
    after_s: float
    noise_db: float
    context: tuple[str, ...]
    seed: int


def plan(
    recipe: Recipe,
    grammars: Mapping[str, Grammar],
    voices: Sequence[str],
    texts: Mapping[str, Sequence[str]] | None = None,
    held_out: Collection[str] = (),
) -> list[Plan]:
    """Draw all utterances of a recipe, without repeated sentences and with mixed domains.

    Args:
        recipe: of the corpus.
        grammars: by their names in the recipe.
        voices: the voices that may be used.
        texts: the sentences of written corpora, by their names in the recipe.
        held_out: sentences, in `plain` words, that must not be used.

    Raises:
        EdgeSpeechError: a grammar is another version, or has too few sentences, as may a written corpus;
            there are no voices; a context slot has no vocabulary; no grammar has a switched slot.
    """
    rng = random.Random(recipe.seed)
    speakers = _speakers(rng, voices, recipe)
    if recipe.habits != (0, 0):
        speakers = [replace(who, habits=draw_habits(rng, rng.randint(*recipe.habits))) for who in speakers]
    if recipe.spanish:
        turns = len(recipe.spanish)
        speakers = [replace(who, spanish=recipe.spanish[n % turns]) for n, who in enumerate(speakers)]
    known = frozenset[str]().union(*(grammars[name].slots for name in recipe.grammars))
    for slot in recipe.switched:
        if slot not in known:
            raise bad(f"recipe {recipe.name}", "switched", slot, "one of " + ", ".join(sorted(known)))
    sentences: list[tuple[Grammar | None, Sentence]] = []
    seen: set[str] = set(held_out)
    for name, use in recipe.grammars.items():
        grammar = grammars[name]
        if grammar.sha256 != use.sha256:
            raise bad(
                f"recipe {recipe.name}: grammar {name}", "sha256", use.sha256, f"{grammar.sha256} (now)"
            )
        drawn = _draw(rng, grammar, use.sentences, recipe.split, seen)
        sentences += [(grammar, sentence) for sentence in drawn]
    for name, wanted in recipe.texts.items():
        fresh = [text for text in (texts or {}).get(name, ()) if plain(text) not in seen]
        if len(fresh) < wanted:
            raise bad(f"recipe {recipe.name}: text {name}", "sentences", wanted, f"at most {len(fresh)}")
        sentences += [(None, Sentence(text, "", {})) for text in rng.sample(fresh, wanted)]
    rng.shuffle(sentences)
    return [
        Plan(
            id=f"{recipe.name}-{number:04d}",
            sentence=sentence,
            said=marked(sentence, recipe.switched),
            speaker=rng.choice(speakers),
            speed=round(rng.uniform(*recipe.speed), 3),
            level_db=round(rng.uniform(*recipe.level_db), 2),
            before_s=round(rng.uniform(*recipe.silence_s), 3),
            after_s=round(rng.uniform(*recipe.silence_s), 3),
            noise_db=round(rng.uniform(*recipe.noise_db), 2),
            context=_context(rng, grammar, sentence, recipe.context),
            seed=rng.getrandbits(32),
        )
        for number, (grammar, sentence) in enumerate(sentences[: recipe.take])
    ]


def marked(sentence: Sentence, slots: Collection[str]) -> str:
    """The words of a sentence, those of some slots in braces.

    Raises:
        EdgeSpeechError: the value of such a slot is not said in the sentence word by word, or twice.
    """
    text = f" {sentence.text} "
    for slot in slots:
        if (value := sentence.slots.get(slot)) is None:
            continue
        if text.count(f" {value} ") != 1:
            raise bad(f"sentence {sentence.text!r}", f"slot {slot}", value, "words that occur in it once")
        text = text.replace(f" {value} ", f" {{{value}}} ")
    return text.strip()


def _draw(rng: random.Random, grammar: Grammar, n: int, split: Split, seen: set[str]) -> list[Sentence]:
    """Draw `n` sentences of a split that are not in `seen`, and add them to it."""
    found: list[Sentence] = []
    for _ in range(_DRAWS_PER_SENTENCE * n):
        sentence = grammar.generate(rng, split)
        if (words := plain(sentence.text)) not in seen:
            seen.add(words)
            found.append(sentence)
            if len(found) == n:
                return found
    raise bad(
        f"grammar {grammar.name}", "sentences", n, f"at most about {len(found)}, it has no more in {split}"
    )


def _speakers(rng: random.Random, voices: Sequence[str], recipe: Recipe) -> list[Speaker]:
    if not voices:
        raise bad("synthesis", "voices", [], "at least one voice of the split")
    n = recipe.speakers
    speakers = [Speaker(((voice, 1.0),)) for voice in voices[:n]]
    if n > len(voices) == 1:
        raise bad("synthesis", "speakers", n, "1 where there is one voice, since blends take two")
    plain_pairs = recipe.blend == 2 and not recipe.beyond
    while len(speakers) < n:
        speakers.append(_pair(rng, voices) if plain_pairs else _blend(rng, voices, recipe))
    return speakers


def _pair(rng: random.Random, voices: Sequence[str]) -> Speaker:
    first, second = rng.sample(list(voices), 2)
    share = round(rng.uniform(0.5, 0.8), 2)
    return Speaker(((first, share), (second, round(1 - share, 2))))


def _blend(rng: random.Random, voices: Sequence[str], recipe: Recipe) -> Speaker:
    """Two to `recipe.blend` voices by shares from a Dirichlet distribution, stretched away from the even blend."""
    chosen = rng.sample(list(voices), rng.randint(2, min(recipe.blend, len(voices))))
    drawn = [rng.gammavariate(1.0, 1.0) for _ in chosen]
    stretch, even = 1 + rng.uniform(0, recipe.beyond), 1 / len(chosen)
    weights = [round(even + stretch * (value / sum(drawn) - even), 2) for value in drawn]
    most = max(range(len(weights)), key=weights.__getitem__)
    weights[most] = round(weights[most] + 1 - sum(weights), 2)
    parts = [(voice, weight) for voice, weight in zip(chosen, weights, strict=True) if weight]
    return Speaker(tuple(sorted(parts, key=lambda part: -part[1])))


def _context(
    rng: random.Random, grammar: Grammar | None, sentence: Sentence, sizes: Mapping[str, int]
) -> tuple[str, ...]:
    phrases: list[str] = []
    for slot, size in sizes.items():
        if grammar is not None and slot in sentence.slots:
            said = sentence.slots[slot]
            others = [value for value in grammar.values(slot) if value != said]
            phrases += [said, *rng.sample(others, min(size - 1, len(others)))]
    rng.shuffle(phrases)
    return tuple(phrases)
