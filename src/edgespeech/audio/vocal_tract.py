"""Speech of a longer or shorter vocal tract, by moving its mel bands.

Source: N. Jaitly and G. Hinton, "Vocal tract length perturbation (VTLP) improves speech recognition", ICML 2013
workshop on deep learning for audio, speech and language processing: frequencies are scaled up to a boundary, and those
above it are compressed so that the end of the band is unchanged.
"""

from __future__ import annotations

import numpy as np

from edgespeech.audio.features import Features, mel_centres_hz

_BOUNDARY_HZ = 4_800.0


def warp_vocal_tract(features: Features, length: float) -> Features:
    """Log-mel features as if spoken by a vocal tract of another length.

    Args:
        features: with shape `(F, 80)`; not changed.
        length: of the vocal tract as a multiple of the talker's, above 0: formants are divided by it.

    Returns:
        Features with shape `(F, 80)`, interpolated linearly between bands.
    """
    centres = mel_centres_hz()
    end = centres[-1]
    boundary = _BOUNDARY_HZ * min(1.0, 1 / length)
    # A formant that is now at f was at f * length.
    sources = np.where(
        centres <= boundary,
        centres * length,
        end - (end - boundary * length) * (end - centres) / (end - boundary),
    )
    places = np.interp(sources, centres, np.arange(centres.size))
    lower = np.minimum(places.astype(np.int64), centres.size - 2)
    upper_share = (places - lower).astype(np.float32)
    warped: Features = features[:, lower] * (1 - upper_share) + features[:, lower + 1] * upper_share
    return warped
