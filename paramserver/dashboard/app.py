"""The web application of the dashboard: a page, its events, and ``metrics``. It only reads.

Rule 1: all addresses are relative, so that it works behind a proxy such as jupyter-server-proxy.
Rule 2: who does not know the token sees nothing. Only a browser that has dialled this machine by a
        loopback name needs none, where the server listens on loopback alone; a foreign name there
        is somebody's web page that tries to read it (DNS rebinding).
Rule 3: it loads nothing from anywhere else, and the browser is told to see to that.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from paramserver.dashboard.board import Board
from paramserver.dashboard.metrics import CONTENT_TYPE, exposition
from paramserver.drawing.page import html, page

UPDATE_S: Final = 1.0
STEP_S: Final = 0.2
"""How soon an open stream sees that the server ends."""
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Endpoint = Callable[[Request], Awaitable[Response]]


class Application:
    """Answers the requests.

    Parameters
    ----------
    board : Board
    title : str
    token : str
    is_loopback : bool
        Whether the server listens on loopback alone.
    has_ended : callable
        Whether open streams have to end.
    """

    def __init__(
        self,
        board: Board,
        *,
        title: str,
        token: str,
        is_loopback: bool,
        has_ended: Callable[[], bool],
    ) -> None:
        self._board = board
        self._title = title
        self._token = token
        self._is_loopback = is_loopback
        self._has_ended = has_ended
        self._metrics = exposition(board.readings)
        self._script = files("paramserver.dashboard").joinpath("live.js").read_text("utf-8")
        endpoints: dict[str, Endpoint] = {
            "/": self._page,
            "/events": self._events,
            "/metrics": self._scrape,
            "/live.js": self._live,
        }
        self.asgi = Starlette(
            routes=[Route(path, self._guarded(each)) for path, each in endpoints.items()]
        )

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            if not self._may_see(request):
                text = "Open the link that cluster.dashboard_link returns: it holds the token.\n"
                return PlainTextResponse(text, 403, HEADERS)
            return await endpoint(request)

        return answer

    def _may_see(self, request: Request) -> bool:
        said = request.query_params.get("token", "")
        if hmac.compare_digest(said.encode(), self._token.encode()):
            return True
        return self._is_loopback and request.url.hostname in LOOPBACK

    async def _page(self, request: Request) -> Response:
        parts = self._board.parts()
        panels = "".join(f'<div id="panel-{name}">{inner}</div>\n' for name, inner in parts.items())
        query = f"?{request.url.query}" if request.url.query else ""
        body = (
            '<div class="bar-top"><b>paramserver</b>'
            f'<span class="cut" title="{html(self._title)}">{html(self._title)}</span>'
            '<span class="badge odd" id="live">as of the loading of the page</span></div>\n'
            f'<div id="panels">{panels}</div>'
        )
        head = (
            f'<script src="live.js{html(query)}" defer></script>\n'
            '<link rel="icon" href="data:,">\n'
            '<noscript><meta http-equiv="refresh" content="5"></noscript>\n'
        )
        return HTMLResponse(page(f"{self._title} · paramserver", body, head=head), 200, HEADERS)

    async def _live(self, request: Request) -> Response:
        return Response(self._script, 200, HEADERS, "text/javascript; charset=utf-8")

    async def _scrape(self, request: Request) -> Response:
        return Response(self._metrics(), 200, {**HEADERS, "Content-Type": CONTENT_TYPE})

    async def _events(self, request: Request) -> Response:
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        return StreamingResponse(self._stream(), 200, headers, "text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        """Yield what has changed, each second, until the server ends or the browser has gone."""
        seen: dict[str, str] = {}
        order: list[str] = []
        while not self._has_ended():
            parts = self._board.parts()
            changed = {name: text for name, text in parts.items() if seen.get(name) != text}
            seen = dict(parts)
            told = {"order": list(parts), "changed": changed}
            is_news = bool(changed) or list(parts) != order
            yield f"data: {json.dumps(told)}\n\n" if is_news else ": nothing new\n\n"
            order = list(parts)
            waited = 0.0
            while waited < UPDATE_S and not self._has_ended():
                await asyncio.sleep(STEP_S)
                waited += STEP_S
