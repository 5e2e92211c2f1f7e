"""A real browser without a window, told what to do over a pipe (the DevTools protocol)."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import count
from pathlib import Path
from typing import Any, Self

WAIT_S = 20
POLL_MS = 50
COMPLAINTS = ("Runtime.exceptionThrown", "Log.entryAdded")


class Browser:
    """Chromium with one page.

    Attributes
    ----------
    complaints : list of str
        Errors of scripts, and what the browser has refused to do.
    """

    def __init__(self, folder: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        options = "--headless --no-sandbox --disable-gpu --remote-debugging-pipe"
        command = (
            f"exec chromium {options} '--user-data-dir={folder}' 3<&{theirs_in} 4>&{theirs_out}"
        )
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._numbers = count(1)
        self._buffer = b""
        self._session: str | None = None
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None
        self._call("Browser.close")
        self._process.wait(WAIT_S)
        os.close(self._in)
        os.close(self._out)

    def open(self, link: str) -> None:
        """Open a page; it is the one that is asked from now on."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self._call(f"{domain}.enable")
        self._call("Page.navigate", url=link)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript; of a promise, what it comes to."""
        options = {"awaitPromise": True, "returnByValue": True}
        answer = self._call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Return when a condition on the page holds; fail if it does not come to that."""
        held = self.evaluate(
            f"""new Promise((resolve) => {{
              const end = Date.now() + {1000 * WAIT_S};
              const look = () => {{
                if ({condition}) resolve(true);
                else if (Date.now() > end) resolve(false);
                else setTimeout(look, {POLL_MS});
              }};
              look();
            }})"""
        )
        assert held, f"the page does not come to {condition}"

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        session = {} if self._session is None else {"sessionId": self._session}
        message = {"id": number, "method": method, "params": params, **session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("method") in COMPLAINTS:
                self.complaints.append(json.dumps(answer["params"]))
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._in, 65_536)
            assert piece, "the browser is gone"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message
