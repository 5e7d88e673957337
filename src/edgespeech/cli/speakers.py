"""`edgespeech speaker`: enrol voices and identify speakers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgespeech.errors import bad

app = typer.Typer(no_args_is_help=True, help="Enrol voices, and tell whose voice a recording has.")

Voices = Annotated[
    Path | None, typer.Option(help="File of the enrolled voices; `voices.json` of the work folder.")
]
Model = Annotated[Path | None, typer.Option(help="A speaker network; the shipped one.")]


@app.command("enrol")
def enrol_speaker(
    name: Annotated[str, typer.Argument(help="Of the speaker.")],
    files: Annotated[list[Path], typer.Argument(help="3 to 5 recordings of this speaker alone.")],
    voices: Voices = None,
    model: Model = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a voice of this name.")] = False,
) -> None:
    """Enrol a voice; doubts about the recordings are printed and stay in the file."""
    from edgespeech.speakers import enrolment

    network, kept = model or enrolment.shipped_network(), voices or enrolment.default_profiles()
    saved = enrolment.load_shipped(network)
    profiles = enrolment.load_profiles(kept, network)
    if not replace and any(one.name == name for one in profiles.profiles):
        raise bad(str(kept), "name", name, "a new name, or --replace")
    profile = enrolment.enrol(saved, name, [enrolment.read_recording(path) for path in files])
    enrolment.save_profiles(kept, profiles.with_profile(profile))
    typer.echo(f"{kept}: {name}, {profile.speech_s:.1f} s of speech")
    for line in profile.warnings:
        typer.echo(f"warning: {line}", err=True)


@app.command("identify")
def identify_speaker(
    file: Annotated[Path, typer.Argument(help="A recording of one speaker.")],
    voices: Voices = None,
    model: Model = None,
) -> None:
    """Print the speaker's name, null for a stranger, and the cosine with every voice, as one line of JSON."""
    import json

    from edgespeech.speakers import enrolment

    network, kept = model or enrolment.shipped_network(), voices or enrolment.default_profiles()
    saved = enrolment.load_shipped(network)
    profiles = enrolment.load_profiles(kept, network)
    where, samples = enrolment.read_recording(file)
    enrolment.speech_seconds(where, samples)
    found = enrolment.identify(saved, profiles, samples)
    rounded = {name: round(value, 3) for name, value in found.cosines.items()}
    told = {"name": found.name, "cosines": rounded, "threshold": round(saved.thresholds.voice, 3)}
    typer.echo(json.dumps(told, ensure_ascii=False))
