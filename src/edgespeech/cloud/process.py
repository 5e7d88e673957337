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
from pathlib import Path
from types import TracebackType
from typing import Any

from edgespeech.audio.vad import SegmentRule
from edgespeech.cloud.access import address_of
from edgespeech.cloud.limits import Limits
from edgespeech.cloud.protocol import PATH, RESCORE_PATH
from edgespeech.errors import EdgeSpeechError

_ALONE = Limits(max_stream_s=3600.0, messages_per_s=10_000.0, burst=100_000.0)
"""For a server that has no other clients than the process that started it, which may be slow."""


class ServerProcess:
    """A server on loopback, on a free port, with tokens of its own; ends with the process that made it.

    Attributes:
        tokens: one of which its clients must show.
        port: where it listens.
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
        """Start the server and wait until it is ready, the model loaded.

        Args:
            backend: `package.module:function` that makes the recogniser, in a process of its own; None: no such.
            options: keyword arguments of that function, JSON-serialisable.
            detector: `package.module:class` of the voice activity detector.
            limits: per client.
            rule: when a segment of speech ends.
            rescorer: `package.module:function` that makes the second pass, in a process of its own; None: no such.
            tokens: how many there are.
            certificate: for TLS, PEM; None: there is no TLS.
            key: of the certificate, PEM.
            host: the loopback address to listen on.
            start_timeout_s: longest wait.

        Raises:
            EdgeSpeechError: it did not become ready; with its last words.
        """
        self._secure = certificate is not None
        self._host = host
        self.tokens = tuple(secrets.token_urlsafe(24) for _ in range(tokens))
        with tempfile.NamedTemporaryFile("w", suffix=".tokens") as file:  # of this user alone
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
        """The first one."""
        return self.tokens[0]

    @property
    def pids(self) -> tuple[int, ...]:
        """Of its process and those of its models."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:  # not Linux, or it is gone
            children = []
        return (self.pid, *map(int, children))

    @property
    def url(self) -> str:
        """Where its clients connect."""
        return self._url(PATH)

    @property
    def rescore_url(self) -> str:
        """Where clients of the second pass connect."""
        return self._url(RESCORE_PATH)

    def _url(self, path: str) -> str:
        return f"{'wss' if self._secure else 'ws'}://{address_of(self._host, self.port)}{path}"

    def last_words(self) -> str:
        """What it has written to standard error."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").strip()

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
        raise EdgeSpeechError(
            f"server process: {how}: {(self.last_words() or 'it wrote nothing').splitlines()[-1]}"
        )
