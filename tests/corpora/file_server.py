"""A server of one file for tests of downloading, and what is left on disk after them."""

import http.server
from pathlib import Path
from typing import Any


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` under every path, with ranges; can be told to misbehave."""

    content = b""
    cut_after: int | None = None
    status: int | None = None
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if server.status is not None:
            self.send_error(server.status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if start and start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        end = len(server.content) if server.cut_after is None else start + server.cut_after
        self.wfile.write(server.content[start:end])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by http.server
        pass


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
