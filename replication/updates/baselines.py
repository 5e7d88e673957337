"""What an update is compared with: the whole file, and differences of files by zstd and bsdiff."""

from __future__ import annotations

from pathlib import Path

from edgespeech.core.extras import need
from edgespeech.errors import EdgeSpeechError

LEVEL = 19
"""Of zstd: the highest that needs no more memory to unpack than usual."""


def whole(old: bytes, new: bytes) -> int:
    """Bytes of the new file as it is."""
    del old
    return len(new)


def zstd(old: bytes, new: bytes) -> int:
    """Bytes of the new file, compressed alone."""
    del old
    need("zstandard", "updates: zstd")
    import zstandard

    return len(zstandard.ZstdCompressor(level=LEVEL).compress(new))


def zstd_patch(old: bytes, new: bytes) -> int:
    """Bytes of the new file, compressed with the old one as dictionary (`zstd --patch-from`).

    Raises:
        EdgeSpeechError: what is unpacked is not the new file.
    """
    need("zstandard", "updates: zstd with a patch dictionary")
    import zstandard

    window = max(10, (len(old) + len(new)).bit_length())
    settings = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=window, enable_ldm=True, source_size=len(new)
    )
    shared = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    patch: bytes = zstandard.ZstdCompressor(compression_params=settings, dict_data=shared).compress(new)
    back = zstandard.ZstdDecompressor(dict_data=shared, max_window_size=1 << window).decompress(patch)
    _check("zstd", back, new)
    return len(patch)


def bsdiff(old: bytes, new: bytes) -> int:
    """Bytes of the patch by bsdiff (C. Percival, "Naive differences of executable code", 2003).

    Raises:
        EdgeSpeechError: what the patch makes is not the new file.
    """
    need("bsdiff4", "updates: bsdiff")
    import bsdiff4

    patch: bytes = bsdiff4.diff(old, new)
    _check("bsdiff", bsdiff4.patch(old, patch), new)
    return len(patch)


BASELINES = {
    "whole file": whole,
    "zstd": zstd,
    "zstd, old file as dictionary": zstd_patch,
    "bsdiff": bsdiff,
}
PATCHES = ("zstd, old file as dictionary", "bsdiff")
"""Those that know the old file."""


def sizes(old: Path, new: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Bytes by baseline, and the reasons of those that could not run."""
    found, missing = {}, {}
    for name, measure in BASELINES.items():
        try:
            found[name] = measure(old.read_bytes(), new.read_bytes())
        except EdgeSpeechError as error:
            missing[name] = str(error)
    return found, missing


def _check(name: str, made: bytes, new: bytes) -> None:
    if made != new:
        raise EdgeSpeechError(f"{name}: the patch makes another file")
