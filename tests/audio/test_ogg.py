import io

import numpy as np
import soundfile

from edgespeech.audio.ogg import with_serial


def opus(seed: int) -> bytes:
    samples = np.random.default_rng(seed).normal(0, 0.1, 40_000)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16_000, format="OGG", subtype="OPUS")
    return buffer.getvalue()


def test_the_own_serial_gives_the_same_bytes() -> None:
    data = opus(0)
    own = int.from_bytes(data[14:18], "little")
    assert with_serial(data, own) == data  # the checksums are libogg's


def test_two_encodings_become_equal_and_still_decode() -> None:
    one, other = opus(1), opus(1)
    assert one != other  # if libsndfile stops this, the module can go
    assert with_serial(one) == with_serial(other)
    before, after = (soundfile.read(io.BytesIO(data))[0] for data in (one, with_serial(one)))
    np.testing.assert_array_equal(before, after)
