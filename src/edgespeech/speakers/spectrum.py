"""What an embedding network must beat: the long-term average spectrum, as it is and after linear discriminants.

Source: T. Kinnunen et al., "Long-term f0 and average spectrum in speaker verification" (ICASSP 2006: the long-term
average spectrum); discriminants after R. A. Fisher, with a share of the identity in the scatter within speakers
(J. H. Friedman, "Regularized discriminant analysis", 1989).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgespeech.audio.features import Features, log_mel_at_once
from edgespeech.contracts import Samples
from edgespeech.errors import bad
from edgespeech.speakers.network import Vector, check_length, pooled, prepared, unit

_SHRINKAGE = 0.1

Floats = NDArray[np.float64]


def spectrum_of(features: Features) -> Floats:
    """Mean and deviation of each mel band over the speech of an utterance, without its level.

    Args:
        features: log-mel with shape `(T, 80)`.

    Returns:
        With shape `(160,)`.
    """
    found: Floats = pooled(*prepared(torch.from_numpy(features.astype(np.float32))[None]))[0].double().numpy()
    return found


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Compares utterances by their long-term spectra.

    Attributes:
        mean: of the training utterances, with shape `(160,)`.
        projection: with shape `(160, D)`.
    """

    mean: Floats
    projection: Floats

    def project(self, spectra: Floats) -> Vector:
        """Vectors of length 1 with shape `(N, D)`, of spectra with shape `(N, 160)`."""
        return unit((spectra - self.mean) @ self.projection)

    def embed(self, samples: Samples) -> Vector:
        """The vector of an utterance at 16 kHz, with shape `(D,)` and length 1.

        Raises:
            EdgeSpeechError: as `edgespeech.speakers.network.check_length`.
        """
        check_length(samples)
        found: Vector = self.project(spectrum_of(log_mel_at_once(samples))[None])[0]
        return found


def standardised(spectra: Floats) -> Spectrum:
    """Compare spectra as they are, each of their numbers at the same deviation.

    Args:
        spectra: of training utterances, with shape `(N, 160)`.
    """
    return Spectrum(spectra.mean(0), np.diag(1 / np.maximum(spectra.std(0), 1e-9)))


def discriminants(spectra: Floats, speakers: NDArray[np.int64], dimensions: int) -> Spectrum:
    """Compare spectra along the directions in which speakers differ most for how much each of them varies.

    Args:
        spectra: of training utterances, with shape `(N, 160)`.
        speakers: of each, with shape `(N,)`.
        dimensions: of the directions, at least 1; at most one fewer than speakers, and than the 160 numbers.

    Raises:
        EdgeSpeechError: `dimensions` out of range.
    """
    names = np.unique(speakers)
    most = min(len(names) - 1, spectra.shape[1])
    if not 1 <= dimensions <= most:
        raise bad("speakers: discriminants", "dimensions", dimensions, f"1 to {most}")
    mean = spectra.mean(0)
    centres = np.array([spectra[speakers == name].mean(0) for name in names])
    counts = np.array([(speakers == name).sum() for name in names])
    apart = spectra - centres[np.searchsorted(names, speakers)]
    within = apart.T @ apart / len(spectra)
    within = (1 - _SHRINKAGE) * within + _SHRINKAGE * np.diag(np.diag(within) + 1e-9)
    between = (centres - mean).T @ ((centres - mean) * counts[:, None]) / len(spectra)
    # After whitening what varies within speakers, the directions between them are orthogonal.
    values, vectors = np.linalg.eigh(within)
    white = vectors / np.sqrt(values)
    _, directions = np.linalg.eigh(white.T @ between @ white)
    return Spectrum(mean, white @ directions[:, ::-1][:, :dimensions])
