"""Threads of the numerical libraries, pinned before any of them is imported."""

from __future__ import annotations

import os

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def pin_threads(threads: int) -> None:
    """Limit the numerical libraries of this process, and of its child processes, to this number of threads.

    More threads than free processors wait for each other: on a busy machine that costs far more than it gains.
    """
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
