"""Tables and the plot of lattices, from rows made up."""

from __future__ import annotations

from replication.lattices.tables import arms_table, bytes_plot, bytes_table, merged_labels, rounding_table

ARM = {
    "corpus": "c", "beam": 4, "merge": 2, "utterances": 3, "words": 50, "errors": 10, "best": 9, "oracle": 5,
    "n_best": {"1": 9, "4": 6}, "evaluations": 1000, "audio_s": 20.0, "arcs": 150,
}  # fmt: skip
POINTS = [
    {
        "kind": "lattice",
        "setting": 8.0,
        "bytes": 80.4,
        "median": 70.0,
        "share": 0.0081,
        "words": 50,
        "oracle": 5,
    },
    {
        "kind": "lattice",
        "setting": 2.0,
        "bytes": 40.0,
        "median": 30.0,
        "share": 0.004,
        "words": 50,
        "oracle": 7,
    },
    {"kind": "n-best", "setting": 4, "bytes": 60.0, "median": 50.0, "share": 0.006, "words": 50, "oracle": 6},
]
AUDIO = {"Opus": 10_000.0, "PCM": 108_000.0}


def test_states_are_named() -> None:
    assert [merged_labels(merge) for merge in (1, 2, None)] == ["1 label", "2 labels", "unmerged"]


def test_arms_have_rates_density_and_cost() -> None:
    row = arms_table([ARM]).splitlines()[2]
    assert row == "| c | 4 | 2 labels | 20.0 % | 18.0 % | 10.0 % | 18.0 % | 12.0 % | 3.0 | 50 |"


def test_bytes_are_beside_the_audio() -> None:
    table = bytes_table(POINTS, AUDIO)
    assert "| lattice, paths within 8 nats | 80 | 70 | 0.8 % | 10.0 % |" in table
    assert "| n-best list of 4 | 60 | 50 | 0.6 % | 12.0 % |" in table
    assert table.endswith("The same utterances as audio, mean: Opus 10.0 kB, PCM 108.0 kB.\n")


def test_roundings_tell_their_step() -> None:
    row = {
        "step_exponent": 2, "prediction": True, "bytes": 80.0, "median": 70, "changed": 0.125, "words": 50, "errors": 9,
    }  # fmt: skip
    assert rounding_table([row]).splitlines()[2] == "| 0.25 | sent | 80 | 70 | 12.5 % | 18.0 % |"


def test_the_plot_is_the_same_every_time() -> None:
    assert bytes_plot(POINTS, AUDIO) == bytes_plot(POINTS, AUDIO)
    assert "n-best" in bytes_plot(POINTS, AUDIO)
