"""Authorization of requests: only the viewer's own page, in a browser that has opened the address with the token."""

import json
import os
import re
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import Response

HEADERS = {
    # NiiVue takes its fonts from data: addresses, decodes them through blob: ones and compiles WebAssembly.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Scope = dict[str, Any]
ASGIApp = Callable[[Scope, Any, Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CLOSED = (
    "This browser is not authorized, or lmri view was restarted since. Open the complete address that lmri view "
    "printed, including the token."
)


CONNECTIONS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""Files in which Linux lists the owners of connections."""


def guarded(app: ASGIApp, token: str | None = None, ticket: str | None = None) -> ASGIApp:
    """Wrap an application: reject unauthorized requests, and add security headers to every response.

    Parameters
    ----------
    app : ASGI application
        Application to protect.
    token : str, optional
        Secret that other accounts of this machine do not know, although they can reach the port. The start page
        requires it in the address and sets a cookie; all other addresses require the cookie.
    ticket : str, optional
        Secret that replaces the token once, and only for the account that runs the server: other accounts can read
        the address with which a browser was started.
    """
    unused = ticket is not None

    def admitted(scope: Scope) -> bool:
        nonlocal unused
        if token is None or scope["path"] != "/":
            return False
        if _same(_named(scope["query_string"], "token"), token):
            return True
        if not unused or not _same(_named(scope["query_string"], "ticket"), str(ticket)):
            return False
        if not is_own(scope.get("client"), scope.get("server")):
            return False
        unused = False
        return True

    async def guard(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        problem = refusal(scope["method"], scope["headers"], scope["path"])
        security_headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
        closed = False
        if problem is None and token is not None:
            if admitted(scope):
                # Lax, so that links in mails and other pages work; requests that such a page sends itself still come
                # without the cookie.
                words = f"{_cookie_name(scope['headers'])}={token}; Path=/; HttpOnly; SameSite=Lax"
                security_headers.append((b"set-cookie", words.encode()))
            elif not _same(_cookie_of(scope["headers"]), token):
                problem, closed = (403, CLOSED), True

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *security_headers]}
            await send(message)

        answer = app if problem is None else _refusing(*problem, closed, as_words=scope["path"] == "/")
        await answer(scope, receive, send_with_headers)

    return guard


def _refusing(status: int, words: str, closed: bool, as_words: bool) -> ASGIApp:
    if as_words:  # shown to the user as text
        return Response(words + "\n", status, media_type="text/plain; charset=utf-8")
    return Response(json.dumps({"error": words, "closed": closed}), status, media_type="application/json")


def refusal(method: str, headers: Headers, path: str = "/") -> tuple[int, str] | None:
    """Return status and message with which a request is refused; None if it is accepted.

    Another web page may send requests through the browser of the user. Its name is then in ``Origin``; if its name
    resolves to this machine, it is in ``Host``; and if it may omit its name, browsers mark the request in
    ``Sec-Fetch-Site`` as coming from another page.
    """
    hosts, origins = _all(headers, b"host"), _all(headers, b"origin")
    if len(hosts) != 1 or len(origins) > 1:
        return (
            400,
            f"The request names {len(hosts)} hosts and {len(origins)} origins; send one host and at most one origin.",
        )
    host = hosts[0].strip().lower()
    if not is_loopback(host):
        return 421, f"The host is {host!r}; accepted values are 127.0.0.1, localhost and [::1], with a port."
    if origins and origins[0].strip().lower() != f"http://{host}":
        return 403, f"The origin is {origins[0]!r}; accepted is the viewer's own page, http://{host}."
    if method not in ("GET", "HEAD") and not origins:
        return (
            403,
            "The request has no origin; accepted is the viewer's own page, which sends its origin when it saves.",
        )
    others = {value.strip().lower() for value in _all(headers, b"sec-fetch-site")} & {"cross-site", "same-site"}
    if others and (path == "/api" or path.startswith("/api/")):
        return 403, f"The request comes from another page ({others.pop()}); accepted is the viewer's own."
    return None


def is_loopback(host: str) -> bool:
    """Return whether a ``Host`` header is a loopback address, with or without a port.

    Any port is accepted, because a tunnel (``ssh -L``) may use a different port from the server.
    """
    return re.fullmatch(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", host) is not None


def is_own(client: tuple[str, int] | None, server: tuple[str, int] | None) -> bool:
    """Return whether a connection comes from the account that runs the server; True if the system does not tell.

    Parameters
    ----------
    client, server : tuple of (str, int), or None
        Address and port of both ends.
    """
    if client is None or server is None or not CONNECTIONS[0].is_file():
        return True
    far, near = _in_hex(client), _in_hex(server)
    for path in CONNECTIONS:
        for line in path.read_text().splitlines()[1:] if path.is_file() else ():
            _, local, remote, state, *_, account = line.split()[:8]
            # IPv6 entries end like IPv4 entries. 01 is established; closed connections are listed as owned by root.
            if local.endswith(far) and remote.endswith(near) and state == "01":
                return int(account) == os.geteuid()
    return False


def _in_hex(end: tuple[str, int]) -> str:
    number = int.from_bytes(socket.inet_aton(end[0]), sys.byteorder)  # byte order of the kernel
    return f"{number:08X}:{end[1]:04X}"


def _all(headers: Headers, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name.lower() == wanted]


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _named(query: bytes, name: str) -> str:
    return parse_qs(query.decode("latin-1")).get(name, [""])[0]


def _cookie_name(headers: Headers) -> str:
    # Cookies do not depend on the port, so several viewers on one machine need different cookie names.
    port = _all(headers, b"host")[0].rpartition(":")[2]
    return f"lmri-view-{port if port.isdecimal() else 80}"


def _cookie_of(headers: Headers) -> str:
    for line in _all(headers, b"cookie"):
        for part in line.split(";"):
            name, _, value = part.strip().partition("=")
            if name == _cookie_name(headers):
                return value
    return ""
