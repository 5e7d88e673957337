"""A folder of synthetic records: four systems, three corpora, noise, a skipped and a failed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgespeech.records.records import Condition, Record, write_record
from helpers_records import publish, record, rows

NOTE = "Its references came from a recogniser of this family, so its coffee WER with context is flattered."
ERRORS = {
    "pocketsphinx": 0.5,
    "whisper-tiny-local": 0.15,
    "whisper-base-local": 0.1,
    "cloud-whisper-base": 0.08,
}


def publish_demo(folder: Path) -> list[Record]:
    """Write the records into `folder`."""
    made = []
    for seed, (system, error) in enumerate(ERRORS.items()):
        one: dict[str, Any] = {"system": system, "cloud": system.startswith("cloud"), "seed": seed}
        corpora = ("an4_test", "assistant_mini", "coffee_dev")
        made += [publish(folder, corpus=corpus, error=error, **one) for corpus in corpora]
        for snr_db in (6.0, 12.0, 24.0):
            noisy = Condition(noise="kitchen", snr_db=snr_db, snr_rule="peak-frame")
            worse = error + 0.6 / snr_db
            made.append(publish(folder, corpus="coffee_dev", error=worse, condition=noisy, **one))
    made.append(
        publish(
            folder,
            system="cloud-whisper-base",
            corpus="coffee_dev",
            cloud=True,
            error=0.05,
            condition=Condition(context=True),
            notes=(NOTE,),
        )
    )
    reason = "no weights here"
    made.append(publish(folder, system="sherpa", corpus="an4_test", status="skipped", reason=reason))
    made.append(publish(folder, system="null", corpus="assistant_mini", error=1.0))
    said = rows(cloud=False, failed=[3])
    broken = record(system="fragile", corpus="an4_test", said=said)
    write_record(broken, said, folder)
    return [*made, broken]
