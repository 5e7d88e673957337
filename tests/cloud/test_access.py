"""Who may connect: tokens, TLS with a real client, addresses."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.fakes import BACKEND, DETECTOR, ask, importable, texts, tone
from edgespeech.cloud.access import TOKEN_ENV, Tokens, address_of, listen, read_tokens, tls_context
from edgespeech.cloud.client import CloudStream
from edgespeech.cloud.limits import Limits
from edgespeech.cloud.process import ServerProcess
from edgespeech.contracts import Request
from edgespeech.errors import EdgeSpeechError


@pytest.mark.parametrize("token", ["", " ", "a b", "secret\n", "\nsecret", "sécret", "a\x00b"])
def test_a_token_that_no_header_can_hold(token: str) -> None:
    with pytest.raises(
        EdgeSpeechError, match=r"variable EDGESPEECH_TOKEN: token 1 is blank or has"
    ) as caught:
        read_tokens(None, {TOKEN_ENV: token})
    assert "secret" not in str(caught.value)


def test_no_token() -> None:
    with pytest.raises(EdgeSpeechError, match=r"there is no token, expected one in a file \(--token-file\)"):
        read_tokens(None, {})


@pytest.mark.parametrize("content", ["one", "one\n", "one\r\n"])
def test_the_last_newline_of_a_token_file_is_none_of_the_token(content: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(content.encode())
    assert read_tokens(file).holder(["Bearer one"]) == "token 1"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "token 1 is blank"),
        ("\n", "token 1 is blank"),
        ("one\n\n", "token 2 is blank"),
        ("one\n \ntwo\n", "token 2 is blank"),
        ("one\ntwo\none\n", "a token is repeated"),
    ],
)
def test_a_token_file_with_a_mistake(content: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(content)
    with pytest.raises(EdgeSpeechError, match=problem):
        read_tokens(file)
    with pytest.raises(EdgeSpeechError, match=r"nowhere: token file is .*, expected a text file"):
        read_tokens(tmp_path / "nowhere")
    with pytest.raises(
        EdgeSpeechError, match="token file is 'more than 1048576 bytes', expected one token a line"
    ):
        read_tokens(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("shown", "holder"),
    [
        ([], None),
        (["Bearer one"], "token 1"),
        (["Bearer two"], "token 2"),
        (["one"], None),
        (["bearer one"], None),
        (["Bearer  one"], None),
        (["Bearer one", "Bearer one"], None),
        (["Bearer \udcff"], None),
    ],
)
def test_who_shows_a_token(shown: list[str], holder: str | None) -> None:
    assert Tokens(["one", "two"]).holder(shown) == holder


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
def test_nobody_else_is_served_without_tls(host: str) -> None:
    with pytest.raises(EdgeSpeechError, match=r"can be reached by others, .* --tls-cert and --tls-key"):
        listen(host, 0, secure=False)
    listen(host, 0, secure=True).close()
    listen(host, 0, secure=False, allow_plaintext=True).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "::ffff:127.0.0.1"])
def test_loopback(host: str) -> None:
    listen(host, 0, secure=False).close()


def test_an_address_that_is_not_there() -> None:
    with pytest.raises(EdgeSpeechError, match="server: host is 'no such host', expected an address"):
        listen("no such host", 0, secure=False)
    with pytest.raises(EdgeSpeechError, match=r"cannot bind 192\.0\.2\.1:0"):
        listen("192.0.2.1", 0, secure=True)


def test_an_address_in_a_url() -> None:
    assert address_of("127.0.0.1", 1) == "127.0.0.1:1"
    assert address_of("::1", 1) == address_of("[::1]", 1) == "[::1]:1"


def certified(folder: Path, name: str = "own") -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 and ::1, signed by itself, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,IP:::1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_client_over_tls(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = certified(tmp_path)
    with (
        importable(),
        ServerProcess(
            backend=BACKEND, detector=DETECTOR, certificate=certificate, key=key, host=host
        ) as server,
    ):
        assert server.url.startswith("wss://")
        with pytest.raises(EdgeSpeechError, match=r"cannot connect: .*self-signed certificate"):
            CloudStream(server.url, server.token, Request(utterance_id="u"))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert texts(ask(server, tone(0.5))) == ["heard 0.5 en"]
        with pytest.raises(EdgeSpeechError, match="cannot connect"):
            CloudStream(server.url.replace("wss", "ws"), server.token, Request(utterance_id="u"))
        assert texts(ask(server, tone(0.5))) == ["heard 0.5 en"]
        assert server.last_words() == ""


def test_handshakes_in_progress_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = certified(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    limits = Limits(max_opening=4)
    with (
        importable(),
        ServerProcess(
            backend=BACKEND, detector=DETECTOR, certificate=certificate, key=key, limits=limits
        ) as server,
    ):
        silent = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(12)]
        try:
            gone = 0
            while gone < 8:  # the others go after 5 s
                readable, _, _ = select.select(silent, [], [], 20)
                assert readable
                for one in readable:
                    with contextlib.suppress(ConnectionError):
                        assert one.recv(1) == b""
                    silent.remove(one)
                    one.close()
                    gone += 1
            assert texts(ask(server, tone(0.5))) == ["heard 0.5 en"]
            for one in silent:
                with contextlib.suppress(OSError):
                    one.sendall(os.urandom(200))  # no handshake
            assert texts(ask(server, tone(0.5))) == ["heard 0.5 en"]
        finally:
            for one in silent:
                one.close()
        assert server.last_words() == ""


def test_a_request_that_comes_with_the_end_of_the_handshake(tmp_path: Path) -> None:
    certificate, key = certified(tmp_path)
    with (
        importable(),
        ServerProcess(backend=BACKEND, detector=DETECTOR, certificate=certificate, key=key) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain,
    ):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ssl.create_default_context(cafile=str(certificate))
        tls = client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(outgoing.read())
                incoming.write(plain.recv(65536))
        tls.write(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        plain.sendall(outgoing.read())  # the client's `Finished`, and the request behind it
        incoming.write(plain.recv(65536))
        answer = b""
        while b"404" not in answer:
            try:
                answer += tls.read()
            except ssl.SSLWantReadError:
                incoming.write(plain.recv(65536))
        assert server.last_words() == ""


def test_certificates_with_a_mistake(tmp_path: Path) -> None:
    certificate, key = certified(tmp_path)
    _, other = certified(tmp_path, "other")
    assert tls_context(None, None) is None
    assert tls_context(certificate, key) is not None
    with pytest.raises(EdgeSpeechError, match="--tls-cert and --tls-key come together"):
        tls_context(certificate, None)
    for wrong in (other, tmp_path / "nowhere", certificate):
        with pytest.raises(EdgeSpeechError, match=r"server: TLS with .*, expected a certificate"):
            tls_context(certificate, wrong)


@pytest.mark.parametrize(
    ("arguments", "token", "problem"),
    [
        (["--host", "0.0.0.0"], "t", "can be reached by others"),
        ([], None, "there is no token"),
        ([], "t\n", "token 1 is blank or has white space"),
        (["--token", "t"], None, "No such option"),
    ],
)
def test_the_command_refuses_what_is_not_safe(arguments: list[str], token: str | None, problem: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_ENV}
    if token is not None:
        environment[TOKEN_ENV] = token
    done = subprocess.run(
        [sys.executable, "-m", "edgespeech.cli", "serve", "--port", "0", *arguments],
        env={**environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
