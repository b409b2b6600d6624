"""A real browser for tests: headless chromium, driven over its own pipe, without a driver in
between.

Speaks the DevTools protocol: JSON messages with a zero byte behind each, written to the child's
file descriptor 3 and read from its 4. Everything the page complains about (console, network,
content policy) is kept in `complaints`. Nothing waits for time to pass: each wait is for an
event, for WAIT_S at most, and then fails.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

WAIT_S = 30.0
READ_BYTES = 1 << 16
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-proxy-server",
    "--lang=en-US",
    "--remote-debugging-pipe",
)


class Chromium:
    """One browser with one page; `profile` is a new directory of its own."""

    def __init__(self, profile: Path) -> None:
        to_child, self._out = os.pipe()
        self._in, from_child = os.pipe()

        def hand_over() -> None:
            # Out of the way first, in case one of the two is 3 or 4 itself.
            reading, writing = os.dup(to_child), os.dup(from_child)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        command = ["chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command,
            preexec_fn=hand_over,
            pass_fds=(3, 4, to_child, from_child),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_child)
        os.close(from_child)
        self._buffer = b""
        self._events: deque[dict[str, Any]] = deque(maxlen=1_000)
        self._number = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(WAIT_S)
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command; its result. A command the browser refuses is an AssertionError."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + WAIT_S
        while True:
            answer = self._next(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._keep(answer)

    def forget(self) -> None:
        """What happened so far is no longer waited for or complained of."""
        self._events.clear()
        self.complaints.clear()

    def wait_for(
        self, method: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        """The parameters of the next such event, which may have come already."""
        deadline = time.monotonic() + WAIT_S
        while True:
            while self._events:
                event = self._events.popleft()
                if event["method"] == method and wanted(event["params"]):
                    parameters: dict[str, Any] = event["params"]
                    return parameters
            self._keep(self._next(deadline))

    @contextmanager
    def loading(self) -> Iterator[None]:
        """The block makes the page go elsewhere; leaving it waits until it is there and loaded."""
        self._events.clear()
        yield
        arrived = self.wait_for("Page.frameNavigated")
        self._wait_until_loaded(arrived["frame"]["loaderId"])

    def open(self, url: str) -> None:
        found = self.call("Page.navigate", url=url)
        assert "errorText" not in found, found["errorText"]
        self._wait_until_loaded(found["loaderId"])

    def _wait_until_loaded(self, loader: str) -> None:
        # By the document's own id: a page that is being left may still send its events.
        self.wait_for(
            "Page.lifecycleEvent", lambda p: p["name"] == "load" and p["loaderId"] == loader
        )

    def evaluate(self, expression: str) -> Any:
        """What an expression of JavaScript gives on the page, as JSON."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_until(self, condition: str) -> None:
        """Returns once the page changed so that an expression is true."""
        promise = (
            f"new Promise(done => {{ const look = () => ({condition}) && done(true);"
            " new MutationObserver(look).observe(document, {subtree: true, childList: true});"
            " look(); })"
        )
        found = self.call("Runtime.evaluate", expression=promise, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]

    def text(self, selector: str) -> str:
        """What a person reads in the first such element."""
        found = self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")
        return " ".join(str(found).split())

    def texts(self, selector: str) -> list[str]:
        found = self.evaluate(
            f"Array.from(document.querySelectorAll({json.dumps(selector)}), e => e.innerText)"
        )
        return [" ".join(text.split()) for text in found]

    def click(self, selector: str) -> None:
        """Clicks where the element is, as a mouse does; fails when it is hidden behind another."""
        place = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            " const x = r.x + r.width / 2, y = r.y + r.height / 2;"
            " return [x, y, e.contains(document.elementFromPoint(x, y))]; })()"
        )
        x, y, on_top = place
        assert on_top, f"{selector} cannot be clicked: something lies over it"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def look(self, *, dark: bool = False, width: int = 1200, height: int = 900) -> None:
        """How the page is looked at: the colour scheme and the window's size in pixels."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def outside(self) -> list[str]:
        """What runs off the window's right edge, but what scrolls in a frame of its own."""
        found: list[str] = self.evaluate(
            "Array.from(document.querySelectorAll('body *'))"
            ".filter(e => !e.closest('.scroll, svg, .chip'))"
            ".filter(e => e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML)"
        )
        return found

    def screenshot(self, path: Path) -> None:
        """The whole page, also what lies below the window's edge."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left_s = deadline - time.monotonic()
            ready = left_s > 0 and select.select([self._in], [], [], left_s)[0]
            assert ready, f"chromium said nothing for {WAIT_S} seconds"
            octets = os.read(self._in, READ_BYTES)
            assert octets, "chromium is gone"
            self._buffer += octets
        message, _, self._buffer = self._buffer.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded

    def _keep(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            return
        self._events.append(message)
        parameters = message["params"]
        match message["method"]:
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters))
