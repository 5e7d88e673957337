from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pytest

from edgespeech.cloud.framing import wire_bytes
from edgespeech.cloud.link import load_profiles
from edgespeech.errors import EdgeSpeechError
from edgespeech.updates.download import PIECE, Download, Interruptions, fetched

CONTENT = bytes(range(256)) * 10
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def download(folder: Path, sha256: str = SHA256) -> Download:
    return Download(folder / "step.update", len(CONTENT), sha256)


def test_a_download_goes_on_from_every_byte(tmp_path: Path) -> None:
    for size in range(0, len(CONTENT), 37):
        download(tmp_path).take(0, CONTENT[:size])
        again = download(tmp_path)  # the process was killed meanwhile
        assert again.offset == size
        with pytest.raises(EdgeSpeechError, match="go on with the download"):
            again.finish()
        again.take(size, CONTENT[size:])
        assert again.finish().read_bytes() == CONTENT
        again.path.unlink()
        assert list(tmp_path.iterdir()) == []


def test_pieces_come_in_order_and_no_more_than_there_are(tmp_path: Path) -> None:
    one = download(tmp_path)
    one.take(0, CONTENT[:9])
    for offset, piece in ((0, CONTENT[:9]), (10, b"x"), (9, CONTENT)):
        with pytest.raises(EdgeSpeechError, match="piece is"):
            one.take(offset, piece)
    assert one.offset == 9


def test_another_file_never_goes_on_with_the_pieces(tmp_path: Path) -> None:
    download(tmp_path).take(0, CONTENT[:9])
    assert download(tmp_path, "0" * 64).offset == 0


def test_wrong_bytes_are_fetched_again(tmp_path: Path) -> None:
    one = download(tmp_path)
    one.take(0, b"?" + CONTENT[1:])
    with pytest.raises(EdgeSpeechError, match="sha256 is"):
        one.finish()
    assert one.offset == 0
    assert not one.path.exists()


@pytest.mark.parametrize("size", [0, -1, 1 << 40])
def test_a_size_out_of_range_is_refused(size: int, tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="size is"):
        Download(tmp_path / "x", size, SHA256)


def test_an_uninterrupted_download_takes_what_the_link_says() -> None:
    profile = load_profiles()["wifi"]
    found = fetched(profile, 10 * PIECE, Interruptions(), 0)
    sent = 10 * wire_bytes(PIECE, up=False)
    assert sent < found.down_bytes < sent + 4000
    assert found.connections == 1
    least = 2.5 * profile.rtt_s + 8 * sent / profile.down_bps
    assert least < found.seconds < least + profile.rtt_s


def test_who_resumes_sends_less_and_ends_earlier() -> None:
    profile = load_profiles()["3g"]
    size = 2_000_000
    plain = fetched(profile, size, Interruptions(), 3)
    resumed = fetched(profile, size, Interruptions(connected_s=4, away_s=2), 3)
    again = fetched(profile, size, Interruptions(connected_s=4, away_s=2, resumes=False), 3)
    assert plain.seconds < resumed.seconds < again.seconds
    assert plain.down_bytes < resumed.down_bytes < again.down_bytes
    lost = (resumed.connections - 1) * (wire_bytes(PIECE, up=False) + 3400)
    assert resumed.down_bytes <= plain.down_bytes + lost


def test_the_same_seed_gives_the_same_times() -> None:
    profile, cut = load_profiles()["car"], Interruptions(connected_s=5, away_s=1)
    assert fetched(profile, 10**6, cut, 1) == fetched(profile, 10**6, cut, 1)
    assert fetched(profile, 10**6, cut, 1) != fetched(profile, 10**6, cut, 2)


def test_without_a_network_nothing_comes() -> None:
    assert math.isinf(fetched(load_profiles()["offline"], 10, Interruptions(), 0).seconds)
