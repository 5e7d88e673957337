"""What this machine has of what EdgeSpeech needs, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable

from edgespeech.core.extras import EXTRAS, missing
from edgespeech.core.places import checkout, mirror_root, work_dir
from edgespeech.core.threads import THREAD_VARIABLES
from edgespeech.engine import native
from edgespeech.errors import EdgeSpeechError
from edgespeech.records import provenance

LITTLE_DISK = 5 << 30


def doctor() -> tuple[list[str], bool]:
    """One line for everything looked at, and whether what every use needs is here."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Python", _python),
        ("checkout", lambda: str(checkout() or "none: an installed package")),
        ("native engine", _engine),
        ("compiler", _compiler),
        ("processor", _processor),
        ("threads", _threads),
        ("work folder", _work),
        ("mirror", _mirror),
    ]
    lines, good = [], True
    for name, check in checks:
        try:
            lines.append(f"ok       {name:14} {check()}")
        except EdgeSpeechError as error:
            lines.append(f"missing  {name:14} {error}")
            good = good and name not in ("Python", "native engine", "work folder")
    for module in EXTRAS:
        line = missing(module)
        lines.append(f"{'ok      ' if line is None else 'missing '} {module:14} {line or ''}".rstrip())
    return lines, good


def _python() -> str:
    return f"{platform.python_version()}, {platform.system()} {platform.machine()}"


def _engine() -> str:
    return f"kernels: {native().chosen_isa()}"


def _compiler() -> str:
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if name and (path := shutil.which(name)) is not None:
            return path
    raise EdgeSpeechError("no C++ compiler: only needed to build the native engine")


def _processor() -> str:
    model, flags = provenance.processor()
    kernels = [
        flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_int8", "asimddp", "i8mm") if flag in flags
    ]
    return (
        f"{model}, {provenance.cores()} cores; {', '.join(kernels) or 'no vector instructions that are used'}"
    )


def _threads() -> str:
    set_ = [f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ]
    load = provenance.load_average()
    busy = "; busy: times measured now are too long" if load > 0.5 * provenance.cores() else ""
    return f"load {load:g}{busy}; {', '.join(set_) or 'no variable is set, commands pin one thread'}"


def _work() -> str:
    folder = work_dir()
    free = shutil.disk_usage(folder).free
    if free < LITTLE_DISK:
        raise EdgeSpeechError(f"{folder}: {free / 2**30:.1f} GiB are free, corpora and training need more")
    return f"{folder}, {free / 2**30:.0f} GiB free"


def _mirror() -> str:
    folder = mirror_root()
    if folder is None:
        raise EdgeSpeechError("none: EDGESPEECH_MIRROR names one; corpora then come from their public homes")
    return str(folder)
