"""The recognition server as a process of its own, for whoever needs one on this machine."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any

from edgespeech.audio.vad import SegmentRule
from edgespeech.cloud.protocol import PATH, RESCORE_PATH
from edgespeech.cloud.server import TOKEN_ENV, Limits
from edgespeech.errors import EdgeSpeechError


class ServerProcess:
    """A server on loopback, on a free port, with a token of its own; ends with the process that made it.

    Attributes:
        token: what its clients must show.
        port: where it listens.
        pid: of the server's process.
    """

    def __init__(
        self,
        *,
        backend: str,
        options: Mapping[str, Any] | None = None,
        detector: str = "edgespeech.audio.vad:SileroDetector",
        limits: Limits | None = None,
        rule: SegmentRule | None = None,
        rescorer: str | None = None,
        start_timeout_s: float = 120.0,
    ) -> None:
        """Start the server and wait until it is ready, the model loaded.

        Args:
            backend: `package.module:function` that makes the recogniser, in the server's process.
            options: keyword arguments of that function, JSON-serialisable.
            detector: `package.module:class` of the voice activity detector.
            limits: per client.
            rule: when a segment of speech ends.
            rescorer: `package.module:function` that makes the second pass, in the server's process; None: no such.
            start_timeout_s: longest wait.

        Raises:
            EdgeSpeechError: it did not become ready; with its last words.
        """
        config = {
            "host": "127.0.0.1",
            "port": 0,
            "backend": backend,
            "options": dict(options or {}),
            "detector": detector,
            "limits": asdict(limits or Limits()),
            "rule": asdict(rule or SegmentRule()),
            "rescorer": rescorer,
        }
        self.token = secrets.token_urlsafe(24)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed in stop)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgespeech.cloud.server", json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, TOKEN_ENV: self.token, "OMP_NUM_THREADS": "1"},
        )
        self.pid = self._process.pid
        try:
            self.port = self._wait_until_ready(start_timeout_s)
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """Where its clients connect."""
        return f"ws://127.0.0.1:{self.port}{PATH}"

    @property
    def rescore_url(self) -> str:
        """Where clients of the second pass connect."""
        return f"ws://127.0.0.1:{self.port}{RESCORE_PATH}"

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the process and wait for it; harmless when it is gone already."""
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            assert stream is not None
            stream.close()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_ready(self, timeout_s: float) -> int:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while time.monotonic() < deadline:
                if selector.select(deadline - time.monotonic()):
                    line = self._process.stdout.readline()
                    if line:
                        return int(json.loads(line)["port"])
                    break
        try:
            how = f"ended with status {self._process.wait(timeout=1)}"
        except subprocess.TimeoutExpired:
            how = f"did not get ready in {timeout_s:g} s"
        raise EdgeSpeechError(f"server process: {how}: {self._last_words()}")

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
