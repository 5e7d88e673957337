"""Evaluate a recogniser from Python: WER with its interval, and user-perceived latency over two networks.

    python examples/evaluate_a_recogniser.py [SYSTEM] [UTTERANCES]

`edgespeech evaluate` does the same and writes a record.
"""

from __future__ import annotations

import sys

from edgespeech.harness.evaluate import Settings, evaluate_run
from edgespeech.harness.plan import Run


def main(system: str = "edge-packed", utterances: str = "20") -> None:
    """Run `system` over a seeded subset of `assistant_mini` and print some of what the record holds."""
    settings = Settings(
        seed=0, threads=1, cloud_speedup=10.0, networks=("wifi", "lte"), profile="quick", concurrent_jobs=1
    )
    run = Run(
        system=system,
        corpus="assistant_mini",
        noise=None,
        snr_db=None,
        snr_rule=None,
        context=None,
        subset=int(utterances),
    )
    record, rows = evaluate_run(run, settings)
    if record.status != "passed":
        raise SystemExit(f"{system}: {record.status}: {record.reason}")
    wer = record.accuracy["whisper-en"].wer
    print(f"{system}: WER {wer.value:.3f}, 95 % {wer.low} to {wer.high}, over {wer.n} words")
    for name, network in record.networks.items():
        upl, cut = network.latency["upl_p50"], network.latency.get("cut_off_rate")
        early = "" if cut is None else f", {100 * cut.value:.0f} % cut off early"
        print(f"{name}: median user-perceived latency {upl.value:.3f} s{early}")
    for row in rows[:3]:
        print(f"  said {row.ref!r}\n  got  {row.hyp_raw!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
