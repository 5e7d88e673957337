"""Who may connect to a server, and how: tokens, TLS, and the address that it listens on."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgespeech.errors import EdgeSpeechError, bad

TOKEN_ENV = "EDGESPEECH_TOKEN"
"""Holds the token that clients must show; never on a command line, where other users could read it."""
MAX_TOKENS = 1000
BACKLOG = 2048
"""Connections that may wait to be accepted."""


class Tokens:
    """The tokens of those who may connect; each holder has a share of the server of his own.

    Args:
        tokens: at least one, of printable ASCII without white space.
        where: they came from, for messages.

    Raises:
        EdgeSpeechError: there is none, or too many, or one is blank, cannot be in a header, or is there twice.
    """

    def __init__(self, tokens: Sequence[str], where: str = "server") -> None:
        if not 0 < len(tokens) <= MAX_TOKENS:
            raise bad(where, "tokens", len(tokens), f"1 to {MAX_TOKENS}")
        self._holders: dict[bytes, str] = {}
        for number, token in enumerate(tokens, 1):
            if not token or any(not "!" <= letter <= "~" for letter in token):
                raise EdgeSpeechError(  # without the token: this is printed
                    f"{where}: token {number} is blank or has white space, a newline or other characters, "
                    "expected printable ASCII"
                )
            self._holders[_digest(token)] = f"token {number}"
        if len(self._holders) < len(tokens):
            raise EdgeSpeechError(f"{where}: a token is repeated, expected different ones")

    def holder(self, shown: Sequence[str]) -> str | None:
        """Who shows the one `Authorization` header of a request; None: nobody who may connect."""
        if len(shown) != 1 or not shown[0].startswith("Bearer "):
            return None
        return self._holders.get(_digest(shown[0].removeprefix("Bearer ")))


_MOST_BYTES = 1 << 20


def read_tokens(file: Path | None, environment: Mapping[str, str] = os.environ) -> Tokens:
    """The tokens of a server.

    Args:
        file: has one a line; the last newline may be missing. None: the environment variable has the only one.
        environment: of the process.

    Raises:
        EdgeSpeechError: the file cannot be read, there is no token, or as `Tokens`.
    """
    if file is None:
        token = environment.get(TOKEN_ENV)
        if token is None:
            raise EdgeSpeechError(
                f"server: there is no token, expected one in a file (--token-file) or in the environment variable "
                f"{TOKEN_ENV}"
            )
        return Tokens([token], f"environment variable {TOKEN_ENV}")
    try:
        with file.open("rb") as opened:  # perhaps a pipe from a keeper of secrets
            content = opened.read(_MOST_BYTES + 1)
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise bad(str(file), "token file", str(error), "a text file with one token a line") from error
    if len(content) > _MOST_BYTES:
        raise bad(str(file), "token file", f"more than {_MOST_BYTES} bytes", "one token a line")
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    return Tokens(lines, str(file))


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """TLS as a server offers it, 1.2 and later; None without a certificate.

    Args:
        certificate: PEM, with the chain up to the authority.
        key: PEM, not encrypted.

    Raises:
        EdgeSpeechError: one of them is missing or unreadable, or they do not belong together.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise EdgeSpeechError("server: --tls-cert and --tls-key come together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise EdgeSpeechError(
            f"server: TLS with {certificate} and {key}: {error}, expected a certificate and its unencrypted key, PEM"
        ) from error
    return context


def listen(host: str, port: int, *, secure: bool, allow_plaintext: bool = False) -> socket.socket:
    """The socket of a server.

    Args:
        host: a name, or an IPv4 or IPv6 address; `::` takes both kinds of connections.
        port: 0 picks a free one.
        secure: whether it will speak TLS.
        allow_plaintext: whether others than this machine may be served without.

    Raises:
        EdgeSpeechError: there is no such address, it cannot be bound, or others could reach it without TLS.
    """
    host = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise bad("server", "host", host, f"an address of this machine ({error})") from error
    family, _, _, _, address = found[0]
    dual = family == socket.AF_INET6 and (address[0] == "::" or str(address[0]).startswith("::ffff:"))
    if not (secure or allow_plaintext or _is_loopback(str(address[0]))):
        raise EdgeSpeechError(
            f"server: {host} can be reached by others, and neither tokens nor speech would be encrypted: "
            "give --tls-cert and --tls-key, or --allow-plaintext if something else encrypts"
        )
    try:
        return socket.create_server(
            address,
            family=family,
            backlog=BACKLOG,
            dualstack_ipv6=dual and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise EdgeSpeechError(f"server: cannot bind {host}:{port}: {error}") from error


def address_of(host: str, port: int) -> str:
    """`host:port` as it stands in a URL."""
    bare = host.removeprefix("[").removesuffix("]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def _digest(token: str) -> bytes:
    """What tokens are looked up by, so that the time it takes tells nothing about them."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def _no_password() -> str:
    raise ValueError("the key is encrypted")
