"""A reverse proxy that serves one server below a prefix, as those of notebook servers do."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding")


class StrippingProxy:
    """Passes what is asked below a prefix on to a server, without the prefix.

    Parameters
    ----------
    link : str
        Of the server.
    prefix : str
        Such as "/user/ann/proxy/8787".
    host : str
        What the server is told that it was called by: the name of the hub.
    """

    def __init__(self, link: str, prefix: str, host: str) -> None:
        place = urlsplit(link)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not self.path.startswith(f"{prefix}/"):
                    self.send_error(404)
                    return
                upstream = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
                try:
                    path = self.path.removeprefix(prefix)
                    upstream.request("GET", path, headers={"Host": host})
                    answer = upstream.getresponse()
                    self.send_response(answer.status)
                    for name, value in answer.getheaders():
                        if name.lower() not in HOP_BY_HOP:
                            self.send_header(name, value)
                    self.end_headers()
                    while piece := answer.read1(65_536):
                        self.wfile.write(piece)
                except (OSError, http.client.HTTPException):
                    pass  # the browser has gone
                finally:
                    upstream.close()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.link = f"http://127.0.0.1:{self._server.server_port}{prefix}/?{place.query}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
