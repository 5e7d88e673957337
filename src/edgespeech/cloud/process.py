"""The recognition server as a separate process on this machine."""

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
from pathlib import Path
from types import TracebackType
from typing import Any

from edgespeech.audio.vad import SegmentRule
from edgespeech.cloud.access import address_of
from edgespeech.cloud.limits import Limits
from edgespeech.cloud.protocol import PATH, RESCORE_PATH
from edgespeech.errors import EdgeSpeechError

_ALONE = Limits(max_stream_s=3600.0, messages_per_s=10_000.0, burst=100_000.0)
"""Limits for a server whose only client is the process that started it, which may be slow."""


class ServerProcess:
    """A server on loopback, on a free port, with its own tokens; it ends with the process that started it.

    Attributes:
        tokens: for its clients.
        port: on which it listens.
        pid: of the server's process.
    """

    def __init__(
        self,
        *,
        backend: str | None,
        options: Mapping[str, Any] | None = None,
        detector: str = "edgespeech.audio.vad:SileroDetector",
        limits: Limits | None = None,
        rule: SegmentRule | None = None,
        rescorer: str | None = None,
        tokens: int = 1,
        certificate: Path | None = None,
        key: Path | None = None,
        host: str = "127.0.0.1",
        start_timeout_s: float = 120.0,
    ) -> None:
        """Start the server and wait until its model is loaded.

        Args:
            backend: `package.module:function` that constructs the recogniser, in a separate process; None: without.
            options: keyword arguments of that function, JSON-serialisable.
            detector: `package.module:class` of the voice activity detector.
            limits: per client.
            rule: when a segment of speech ends.
            rescorer: `package.module:function` that constructs the second pass, in a separate process; None: without.
            tokens: number of tokens.
            certificate: for TLS, PEM; None: without TLS.
            key: of the certificate, PEM.
            host: the loopback address to listen on.
            start_timeout_s: maximum wait.

        Raises:
            EdgeSpeechError: it did not become ready; with the end of its output.
        """
        self._secure = certificate is not None
        self._host = host
        self.tokens = tuple(secrets.token_urlsafe(24) for _ in range(tokens))
        with tempfile.NamedTemporaryFile("w", suffix=".tokens") as file:  # readable by this user alone
            file.write("".join(f"{token}\n" for token in self.tokens))
            file.flush()
            config = {
                "host": host,
                "port": 0,
                "token_file": file.name,
                "backend": backend,
                "options": dict(options or {}),
                "detector": detector,
                "limits": asdict(limits or _ALONE),
                "rule": asdict(rule or SegmentRule()),
                "rescorer": rescorer,
                "certificate": None if certificate is None else str(certificate),
                "key": None if key is None else str(key),
            }
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed in stop)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgespeech.cloud.server", json.dumps(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            self.pid = self._process.pid
            try:
                self.port = self._wait_until_ready(start_timeout_s)
            except BaseException:
                self.stop()
                raise

    @property
    def token(self) -> str:
        """The first token."""
        return self.tokens[0]

    @property
    def pids(self) -> tuple[int, ...]:
        """The ids of its process and of its models' processes."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:  # not Linux, or it has ended
            children = []
        return (self.pid, *map(int, children))

    @property
    def url(self) -> str:
        """The URL for clients."""
        return self._url(PATH)

    @property
    def rescore_url(self) -> str:
        """The URL for clients of the second pass."""
        return self._url(RESCORE_PATH)

    def _url(self, path: str) -> str:
        return f"{'wss' if self._secure else 'ws'}://{address_of(self._host, self.port)}{path}"

    def last_words(self) -> str:
        """Its output on standard error."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").strip()

    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the process and wait for it; harmless if it has ended already."""
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
        raise EdgeSpeechError(
            f"server process: {how}: {(self.last_words() or 'it wrote nothing').splitlines()[-1]}"
        )
