# ruff: noqa: RUF001  the signs of the phonetic alphabet are meant
"""Pronunciation habits of speakers whose first language, or first variety of English, is another one.

The pronunciation rules of the synthesiser cover two varieties of English without accents; a recogniser trained on these
alone confuses words of strong accents. A habit replaces one sound by another everywhere. Habits are single properties
of many accents, drawn independently, and do not imitate any one accent: the aim is variety of pronunciation.

Sources: of the habits, J. C. Wells, "Accents of English" (1982), and M. Swan and B. Smith (editors), "Learner English",
2nd edition (2001); of synthetic accents in training, P. Klumpp et al., "Synthetic cross-accent data augmentation for
automatic speech recognition" (2023), arXiv:2303.00802.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from edgespeech.errors import bad

_END = r"(?=[\s.,?]|$)"
"""The end of a word."""
_CONSONANTS = "bdfhjklmnpstvwzðŋɡɹɾʃʒθ"

Rules = Sequence[tuple[str, str]]

_HABITS: Mapping[str, Mapping[str, Rules]] = {
    "th": {
        "th_as_stops": [("θ", "t"), ("ð", "d")],
        "th_as_hisses": [("θ", "s"), ("ð", "z")],
        "th_as_lip_sounds": [("θ", "f"), ("ð", "v")],
    },
    "r": {
        "r_tapped": [("ɹ", "ɾ")],
        "r_trilled": [("ɹ", "r")],
        "r_of_the_throat": [("ɹ", "ʁ")],
        "r_before_vowels_alone": [(rf"ɹ(?=[{_CONSONANTS}\s.,?]|$)", ""), ("ɚ", "ə")],
        "r_as_l": [("ɹ", "l")],
        "r_after_every_vowel": [("ɜː(?!ɹ)", "ɛɹ"), ("ɚ", "ɛɹ")],
    },
    "l": {
        "l_as_tap": [("l", "ɾ")],
        "l_as_vowel": [(rf"l(?=[{_CONSONANTS}\s.,?]|$)", "ʊ")],
    },
    "w": {"w_as_v": [("w", "v")], "w_as_vowel": [(r"w(?=[ˈˌ]?[ʊu])", "")]},
    "v": {"v_as_w": [("v", "w")], "v_as_b": [("v", "b")], "v_as_f": [("v", "f")]},
    "t and d": {
        "curled_t_and_d": [(r"t(?!ʃ)", "ʈ"), (r"d(?!ʒ)", "ɖ")],
        "t_never_tapped": [("ɾ", "t")],
        "t_in_the_throat": [(rf"t{_END}", "ʔ")],
    },
    "voice at the end": {
        "voiceless_ends": [(rf"{a}{_END}", b) for a, b in ("dt", "zs", "vf", "bp", "ɡk")]
        + [(rf"dʒ{_END}", "tʃ")],
    },
    "hisses": {
        "z_as_s": [("z", "s")],
        "s_as_z_between_vowels": [(r"(?<=[aeiouæɑɔəɛɪʊʌː])s(?=[ˈˌ]?[aeiouæɑɔəɛɪʊʌ])", "z")],
    },
    "sh": {"sh_as_s": [(r"(?<!t)ʃ", "s")], "s_as_sh": [(r"s(?=[ptkmn])", "ʃ")]},
    "ch": {"ch_as_sh": [("tʃ", "ʃ")], "ch_as_ts": [("tʃ", "ts")]},
    "j": {"j_as_zh": [("dʒ", "ʒ")], "j_as_y": [("dʒ", "j")], "j_as_dz": [("dʒ", "dz")]},
    "h": {"h_dropped": [("h", "")], "h_rough": [("h", "x")]},
    "ng": {"ng_with_g": [(rf"ŋ{_END}", "ŋɡ")], "ng_as_n": [(rf"ŋ{_END}", "n")]},
    "clusters": {
        "last_stop_dropped": [(rf"(?<=[nslkpfvzʃɹ])[td]{_END}", "")],
        "vowel_in_clusters": [(r"(?<![aeiouæɑɔəɛɪʊʌː])([ptkbdɡs])(?=[lɹmn])", r"\1ə")],
        "vowel_before_s": [(r"(?<![^\s])s(?=[ptkmnl])", "ɛs")],
    },
    "vowel at the end": {"vowel_after_stops": [(rf"([ptkbdɡ]){_END}", r"\1ə")]},
    "a of cat": {"a_as_e": [("æ", "ɛ")], "a_open": [("æ", "a")]},
    "e of bed": {"e_as_a": [("ɛ", "æ")], "e_close": [("ɛ(?!ɹ)", "e")]},
    "i": {
        "short_i_tense": [(r"(?<![aeɔ])ɪ", "i")],
        "long_i_lax": [("iː", "ɪ")],
        "i_central": [(r"(?<![aeɔ])ɪ", "ə")],
    },
    "u": {"short_u_tense": [(r"(?<![aoəɑ])ʊ", "u")], "long_u_fronted": [("uː", "yː")]},
    "a of cup": {"cup_as_a": [("ʌ", "a")], "cup_as_o": [("ʌ", "ɔ")], "cup_as_u": [("ʌ", "ʊ")]},
    "glides": {
        "plain_e_and_o": [("eɪ", "eː"), ("oʊ|əʊ", "oː")],
        "open_o": [("oʊ|əʊ", "ɔ")],
        "wide_glides": [("eɪ", "aɪ"), ("oʊ|əʊ", "aʊ")],
        "flat_i": [("aɪ", "aː")],
    },
    "o of hot": {"hot_as_law": [("ɑː(?!ɹ)|ɒ", "ɔː")], "law_as_hot": [("ɔː(?!ɹ)", "ɑː")]},
    "er": {"er_as_e": [("ɜː", "ɛ")], "er_as_a": [("ɚ", "a")]},
    "weak vowels": {
        "weak_vowels_as_a": [("ə(?!ʊ)|ɐ", "a")],
        "weak_vowels_as_e": [("ə(?!ʊ)", "ɛ")],
        "weak_vowels_as_o": [("ə(?!ʊ)", "ɔ")],
    },
    "rhythm": {"even_stress": [("[ˈˌ]", "")], "short_vowels": [("ː", "")]},
}
"""Habits grouped by the sounds they change; a speaker has at most one of a group. Patterns and replacements in
espeak-ng's phonetic symbols, applied in this order."""

_RULES: Mapping[str, Rules] = {name: rules for group in _HABITS.values() for name, rules in group.items()}
_ORDER = {name: place for place, name in enumerate(_RULES)}


def habit_names() -> tuple[str, ...]:
    """All habits, in the order in which they are applied."""
    return tuple(_RULES)


def draw_habits(rng: random.Random, count: int) -> tuple[str, ...]:
    """Draw habits of different groups, in the order in which they are applied.

    Args:
        rng: for the choice.
        count: how many, 0 up to the number of groups.

    Raises:
        EdgeSpeechError: there are fewer groups.
    """
    if not 0 <= count <= len(_HABITS):
        raise bad("speaker", "habits", count, f"0 to {len(_HABITS)}")
    chosen = [rng.choice(sorted(_HABITS[group])) for group in rng.sample(sorted(_HABITS), count)]
    return tuple(sorted(chosen, key=_ORDER.__getitem__))


def with_habits(sounds: str, habits: Sequence[str]) -> str:
    """The pronunciation of a sentence with habits.

    Args:
        sounds: in espeak-ng's phonetic symbols, with stress and spaces between words.
        habits: names, applied one after the other.

    Raises:
        EdgeSpeechError: an unknown habit.
    """
    for name in habits:
        if name not in _RULES:
            raise bad("speaker", "habit", name, "one of " + ", ".join(_RULES))
        for pattern, said in _RULES[name]:
            sounds = re.sub(pattern, said, sounds)
    return sounds
