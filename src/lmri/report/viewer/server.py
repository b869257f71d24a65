"""Server of the viewer: it listens on the loopback address, answers only its own page, and reads only the study."""

import contextlib
import importlib.metadata
import importlib.resources
import json
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lmri.exceptions import LMRIError, StudyError
from lmri.report.viewer import api, results_api
from lmri.report.viewer.cached_reader import FRESH, CachedReader
from lmri.report.viewer.guard import ASGIApp, guarded
from lmri.report.viewer.models import ViewedModels
from lmri.report.viewer.query import Answer, Query

HOST = "127.0.0.1"
PORT = 8765
"""Default port, tried first so that the address stays the same between sessions."""

LARGEST_BODY = 64 * 2**20
PAGE = Path(__file__).with_name("page")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


def niivue_path() -> Path:
    """Return the path of the NiiVue bundle of nilearn.

    Raises
    ------
    StudyError
        If this version of nilearn does not include it.
    """
    path = Path(str(importlib.resources.files("nilearn"))) / "_assets" / "js" / "niivue.umd.js"
    if not path.is_file():
        raise StudyError(
            f"nilearn {importlib.metadata.version('nilearn')} has no NiiVue bundle ({path} is missing), which draws "
            "the images of the viewer. Install a newer version: pip install 'nilearn>=0.14.1'."
        )
    return path


# -- the application --------------------------------------------------------------------------------------------------


def make_app(
    study: str | Path,
    token: str | None = None,
    fresh: float = FRESH,
    ticket: str | None = None,
    subject: str | None = None,
    session: str | None = None,
) -> ASGIApp:
    """Create the application that serves all models of a study. The group has no recordings, and is not served.

    Parameters
    ----------
    study : str or Path
        Folder of the study.
    token : str, optional
        Secret without which requests are refused; by default all requests from this machine are answered.
    fresh : float, default 1
        Lifetime of the inventory, see `CachedReader`.
    ticket : str, optional
        One-time secret, see `guarded`.
    subject, session : str, optional
        Labels of the model that is shown first, see `ViewedModels`.

    Raises
    ------
    StudyError
        If there is no study.
    AmbiguousChoiceError
        If there is no such model, or several fit.
    """
    models = ViewedModels(study, fresh, subject, session)
    answers: dict[str, Answer] = {**api.ANSWERS, "study": _overview(models)}
    routes = [
        Route("/", lambda request: _file(PAGE / "index.html")),
        Route("/page/{name}", _page),
        Route("/niivue.umd.js", lambda request: _file(niivue_path())),
        *(Route(f"/api/{name}", _answering(models, answer)) for name, answer in answers.items()),
        Route("/api/rois", _saving(models), methods=["POST"]),
    ]
    handlers: Mapping[Any, Any] = {
        HTTPException: _refused,
        StudyError: _not_there,
        LMRIError: _damaged,
        ValueError: _damaged,
        OSError: _damaged,
        Exception: _fault,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # addresses with a slash added are not found
    return guarded(app, token, ticket)


def _page(request: Request) -> Response:
    name = request.path_params["name"]
    # Names are looked up in the list of files and never used as paths.
    page_files = {path.name: path for path in PAGE.iterdir() if path.is_file() and path.suffix in TYPES}
    if name not in page_files:
        raise HTTPException(404, f"The viewer has no file {name!r}.")
    return _file(page_files[name])


def _file(path: Path) -> Response:
    if not path.is_file():
        raise HTTPException(404, f"{path.name} is missing from this installation of lmri. Install it again.")
    return Response(path.read_bytes(), media_type=TYPES[path.suffix])


def _overview(models: ViewedModels) -> Answer:
    def answer(reader: CachedReader, query: Query) -> dict[str, Any]:
        return {**api.study(reader, query), **models.listed(reader)}

    return answer


def _answering(models: ViewedModels, answer: Answer) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        content = answer(models.reader(request.query_params.get("scope")), Query(request.query_params))
        if isinstance(content, bytes):
            return Response(content, media_type="application/octet-stream")
        return _json(content)

    return endpoint


def _saving(models: ViewedModels) -> Callable[[Request], Awaitable[Response]]:
    def save(scope: str | None, body: bytes) -> dict[str, Any]:
        return results_api.save_roi(models.reader(scope), body)

    async def endpoint(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HTTPException(415, f"The content is {kind or 'of no type'}; accepted is application/json.")
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_BODY:
                raise HTTPException(413, f"The content is larger than {LARGEST_BODY // 2**20} MB.")
        return _json(await run_in_threadpool(save, request.query_params.get("scope"), bytes(body)), 201)

    return endpoint


def _json(content: Any, status: int = 200) -> Response:
    # ASCII, because text may contain lone surrogates, which UTF-8 cannot encode; browsers restore them.
    text = json.dumps(api.plain(content), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("ascii"), status, media_type="application/json")


def _refused(request: Request, error: HTTPException) -> Response:
    words = error.detail
    if error.status_code == 405:
        words = f"{request.url.path} does not accept {request.method}."
    elif words == "Not Found":  # message of Starlette for an unknown address
        words = f"There is nothing at {request.url.path}."
    return _json({"error": words}, error.status_code)


def _not_there(request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 404)


def _damaged(request: Request, error: Exception) -> Response:
    return _json({"error": f"This cannot be shown: {error}"}, 500)


def _fault(request: Request, error: Exception) -> Response:
    return _json({"error": f"{type(error).__name__}: {error}. This is a bug in lmri, or the study is damaged."}, 500)


# -- running ----------------------------------------------------------------------------------------------------------


def bound(port: int | None = None) -> socket.socket:
    """Return a listening socket on the loopback address.

    Parameters
    ----------
    port : int, optional
        Port; 0 for any free port. By default `PORT`, or any free port if that is in use.

    Raises
    ------
    OSError
        If the port is in use or not available; the message names a free port.
    """
    if port is not None and not 0 <= port < 2**16:
        raise ValueError(f"The port is {port}; choose from 1 to 65535, or 0 for any free port.")
    try:
        return _listening(PORT if port is None else port)
    except OSError as error:
        free = _listening(0)
        if port is None:
            return free
        number = free.getsockname()[1]
        free.close()
        reason = error.strerror or str(error)
        raise OSError(f"Port {port} is not available ({reason}). Choose another: --port {number} is free.") from error


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name != "nt":  # Windows would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()  # browsers can connect before the server runs
    except OSError:
        listener.close()
        raise
    return listener


def address(listening: socket.socket, secret: str, kind: str = "token") -> str:
    """Return the address of the page, with the token (or ticket) that authorizes a browser."""
    return f"http://{HOST}:{listening.getsockname()[1]}/?{kind}={secret}"


def _server(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def serving(
    study: str | Path, port: int | None = 0, subject: str | None = None, session: str | None = None
) -> Iterator[str]:
    """Serve a study in a thread while the body of the context runs.

    Parameters
    ----------
    study : str or Path
        Folder of the study.
    port : int, optional
        Port, see `bound`; any free port by default.
    subject, session : str, optional
        Labels of the model that is shown first, and of its state; by default the first model in alphabetical order.

    Yields
    ------
    str
        Address of the page, such as ``"http://127.0.0.1:40123/?token=..."``; it already accepts requests.

    Raises
    ------
    StudyError
        If there is no study.
    OSError
        If the port is in use.
    """
    token = secrets.token_urlsafe(24)
    app = make_app(study, token, subject=subject, session=session)
    listening = bound(port)
    server = _server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield address(listening, token)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def serve(
    study: str | Path,
    port: int | None = None,
    ready: Callable[[str], None] | None = None,
    browser: bool = False,
    subject: str | None = None,
    session: str | None = None,
) -> None:
    """Serve a study until the process is interrupted (Ctrl-C).

    Parameters
    ----------
    study : str or Path
        Folder of the study.
    port : int, optional
        Port, see `bound`.
    ready : callable, optional
        Function called with the address as soon as it accepts requests.
    browser : bool, default False
        Whether to open the page in a browser. The browser is started with a ticket that is valid once, because the
        list of processes shows it to all accounts of this machine.
    subject, session : str, optional
        Labels of the model that is shown first, and of its state; by default the first model in alphabetical order.
    """
    niivue_path()  # fails now if it is missing, rather than in the browser
    token, ticket = secrets.token_urlsafe(24), secrets.token_urlsafe(24) if browser else None
    app = make_app(study, token, ticket=ticket, subject=subject, session=session)
    with contextlib.closing(bound(port)) as listening:
        if ready is not None:
            ready(address(listening, token))
        if ticket is not None:
            open_browser(address(listening, ticket, "ticket"))
        # uvicorn shuts down, and then raises the signal again.
        with contextlib.suppress(KeyboardInterrupt):
            _server(app).run(sockets=[listening])


def open_browser(url: str) -> None:
    """Open a page in the default browser; a browser that runs in the terminal does not block the server."""
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
