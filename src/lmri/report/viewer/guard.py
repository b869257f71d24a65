"""Who may ask: the viewer's own page, in a browser that was given the address with the token."""

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
    "This browser has not been let in, or lmri view was started again since. Open the address that lmri view printed "
    "when it was started, all of it, with the token."
)


CONNECTIONS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""Where Linux says whose a connection is."""


def guarded(app: ASGIApp, token: str | None = None, ticket: str | None = None) -> ASGIApp:
    """Refuse who may not ask, and give every answer the headers that bind the page.

    Parameters
    ----------
    app : ASGI application
    token : str, optional
        Other accounts of this machine reach the port as well, and do not know it. The first page is given to whoever
        names it in the address, with a cookie; everything else to whoever brings that cookie.
    ticket : str, optional
        Does the same once, and only for the account that runs this: other accounts may read it, as they read with
        which address a browser was started.
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
        own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
        closed = False
        if problem is None and token is not None:
            if admitted(scope):
                # Lax, so that a link in a mail or in another page leads here as well; what such a page asks for by
                # itself still comes without the cookie.
                words = f"{_cookie_name(scope['headers'])}={token}; Path=/; HttpOnly; SameSite=Lax"
                own.append((b"set-cookie", words.encode()))
            elif not _same(_cookie_of(scope["headers"]), token):
                problem, closed = (403, CLOSED), True

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        answer = app if problem is None else _refusing(*problem, closed, as_words=scope["path"] == "/")
        await answer(scope, receive, send_with_headers)

    return guard


def _refusing(status: int, words: str, closed: bool, as_words: bool) -> ASGIApp:
    if as_words:  # a person reads it
        return Response(words + "\n", status, media_type="text/plain; charset=utf-8")
    return Response(json.dumps({"error": words, "closed": closed}), status, media_type="application/json")


def refusal(method: str, headers: Headers, path: str = "/") -> tuple[int, str] | None:
    """Say with which status and words a request is refused; None if it is welcome.

    A page elsewhere may send requests here through the browser of whoever looks at the study. Its own name stands in
    ``Origin``; if it has its name resolved to this machine, that name stands in ``Host``; and where it may leave out
    its name, browsers say in ``Sec-Fetch-Site`` that it is another one.
    """
    hosts, origins = _all(headers, b"host"), _all(headers, b"origin")
    if len(hosts) != 1 or len(origins) > 1:
        return (
            400,
            f"The request names {len(hosts)} hosts and {len(origins)} origins; accepted are one and at most one.",
        )
    host = hosts[0].strip().lower()
    if not is_loopback(host):
        return 421, f"The host is {host!r}; accepted are 127.0.0.1, localhost and [::1], with a port."
    if origins and origins[0].strip().lower() != f"http://{host}":
        return 403, f"The origin is {origins[0]!r}; accepted is the viewer's own page, http://{host}."
    if method not in ("GET", "HEAD") and not origins:
        return 403, "The request has no origin; the viewer's own page names itself when it saves."
    others = {value.strip().lower() for value in _all(headers, b"sec-fetch-site")} & {"cross-site", "same-site"}
    if others and (path == "/api" or path.startswith("/api/")):
        return 403, f"The request comes from another page ({others.pop()}); accepted is the viewer's own."
    return None


def is_loopback(host: str) -> bool:
    """Say whether a ``Host`` header names this machine to itself, with a port or without.

    Any port: behind a tunnel (``ssh -L``) the browser knows another one than the server.
    """
    return re.fullmatch(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", host) is not None


def is_own(client: tuple[str, int] | None, server: tuple[str, int] | None) -> bool:
    """Say whether a connection comes from the account that runs this; taken for granted where no system tells.

    Parameters
    ----------
    client, server : tuple of (str, int), or None
        Address and port of either end.
    """
    if client is None or server is None or not CONNECTIONS[0].is_file():
        return True
    far, near = _in_hex(client), _in_hex(server)
    for path in CONNECTIONS:
        for line in path.read_text().splitlines()[1:] if path.is_file() else ():
            _, local, remote, state, *_, account = line.split()[:8]
            # Those of IPv6 end as those of IPv4 do. 01 is established: what was closed counts as the root's.
            if local.endswith(far) and remote.endswith(near) and state == "01":
                return int(account) == os.geteuid()
    return False


def _in_hex(end: tuple[str, int]) -> str:
    number = int.from_bytes(socket.inet_aton(end[0]), sys.byteorder)  # as the kernel has it in memory
    return f"{number:08X}:{end[1]:04X}"


def _all(headers: Headers, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name.lower() == wanted]


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _named(query: bytes, name: str) -> str:
    return parse_qs(query.decode("latin-1")).get(name, [""])[0]


def _cookie_name(headers: Headers) -> str:
    # Browsers tell hosts apart, not ports: several viewers on one machine each need a cookie of their own.
    port = _all(headers, b"host")[0].rpartition(":")[2]
    return f"lmri-view-{port if port.isdecimal() else 80}"


def _cookie_of(headers: Headers) -> str:
    for line in _all(headers, b"cookie"):
        for part in line.split(";"):
            name, _, value = part.strip().partition("=")
            if name == _cookie_name(headers):
                return value
    return ""
