"""Headless Chromium, driven by the DevTools protocol over two pipes: nothing but the standard library is needed."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless_shell")
PATIENCE = 120.0
"""Seconds that a busy machine is given for one command."""

START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The browser reads commands from descriptor 3 and writes answers to descriptor 4."""


def find() -> str | None:
    """The browser's path, None where there is none."""
    return os.environ.get("TREEAGENT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def _high(pair: tuple[int, int]) -> tuple[int, int]:
    """The same pipe on descriptors that are out of the way of 3 and 4."""
    moved = tuple(fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in pair)
    for each in pair:
        os.close(each)
    return moved[0], moved[1]


class Browser:
    """One browser with one page at a time; errors of the page are kept."""

    def __init__(self, program: str, profile: Path, width: int = 1400, height: int = 900) -> None:
        commands, self._commands = _high(os.pipe())
        self._answers, answers = _high(os.pipe())
        self.errors: list[str] = []
        """Uncaught exceptions, console errors and what the policy refused, since the page was opened."""
        self._number, self._tail, self._session = 0, b"", ""
        flags = (
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-extensions", "--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe",
            f"--user-data-dir={profile}", f"--window-size={width},{height}",
        )  # fmt: skip
        words = [sys.executable, "-S", "-c", START, str(commands), str(answers), program, *flags, "about:blank"]
        self._process = subprocess.Popen(
            words, pass_fds=(commands, answers), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        [target] = [each for each in self.send("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.resize(width, height)

    def close(self) -> None:
        """End the browser."""
        try:
            self.send("Browser.close")
        except (EOFError, BrokenPipeError, TimeoutError):
            self._process.kill()
        self._process.wait(30)
        os.close(self._commands)
        os.close(self._answers)

    def resize(self, width: int, height: int) -> None:
        """The window's inner size in CSS pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def phone(self, width: int, height: int) -> None:
        """A window that is touched, of so many CSS pixels; 0: as before."""
        self.send("Emulation.setTouchEmulationEnabled", enabled=bool(width), maxTouchPoints=2)
        if width:
            how = {"deviceScaleFactor": 2, "mobile": True}
            self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, **how)

    def tap(self, x: float, y: float) -> None:
        """A finger at a point of the window."""
        self.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def pinch(self, middle: tuple[float, float], start: float, end: float) -> None:
        """Two fingers, one above the other, from one distance to another."""
        for kind, apart in (("touchStart", start), ("touchMove", (start + end) / 2), ("touchMove", end)):
            points = [{"x": middle[0], "y": middle[1] + side * apart / 2, "id": side + 1} for side in (-1, 1)]
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def dark(self, wanted: bool) -> None:
        """The system's colour scheme."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if wanted else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path) -> float:
        """Open a file; returns the seconds until it has loaded and drawn its first frames."""
        return self.visit(page.resolve().as_uri())

    def visit(self, address: str) -> float:
        """As :meth:`open`, by an address."""
        self.send("Page.navigate", url="about:blank")
        self.errors.clear()
        began = time.monotonic()
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        return time.monotonic() - began

    def run(self, code: str) -> Any:
        """The value of an expression in the page; promises are awaited. An exception there is raised here."""
        found = self.send("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{code}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, code: str) -> None:
        """Until an expression is true, looked at once a frame. Raises TimeoutError."""
        end = time.monotonic() + PATIENCE
        while not self.run(code):
            if time.monotonic() > end:
                raise TimeoutError(code)
            self.run("new Promise(done => setTimeout(done, 16))")

    def click(self, x: float, y: float) -> None:
        """A click of the mouse at a point of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The mouse goes down at one point of the window and up at another."""
        how = {"button": "left", "buttons": 1, "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], **how)
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=end[0], y=end[1], **how)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], **how)

    def wheel(self, x: float, y: float, down: float) -> None:
        """The wheel turns at a point of the window, by so many pixels."""
        self.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=down)

    def press(self, key: str, code: str = "", text: str = "") -> None:
        """A key."""
        more = {"text": text} if text else {}
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=code or key, **(more if kind == "keyDown" else {})
            )

    def screenshot(self, path: Path) -> None:
        """What is seen, as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """A command and its answer; events that come in between are looked at for errors."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        return self._await(lambda told: told.get("id") == number)

    def _await(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while True:
            while b"\0" in self._tail:
                line, self._tail = self._tail.split(b"\0", 1)
                told = json.loads(line)
                self._watch(told)
                if wanted(told):
                    if "error" in told:
                        raise RuntimeError(str(told["error"]))
                    result: dict[str, Any] = told["result"]
                    return result
            if not select.select([self._answers], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            more = os.read(self._answers, 1 << 20)
            if not more:
                raise EOFError("the browser has ended")
            self._tail += more

    def _watch(self, told: dict[str, Any]) -> None:
        method, params = told.get("method"), told.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert", "warning"):
            self.errors.append(str(params["args"]))
        elif method == "Page.javascriptDialogOpening":
            self.errors.append(f"a dialog: {params['message']}")
