"""A real browser for tests, spoken to over its debugging pipe; needs Chromium."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-extensions", "--disable-background-networking", "--mute-audio"),
    *("--disable-component-update", "--disable-dev-shm-usage", "--disable-sync"),
    *("--remote-debugging-pipe", "about:blank"),
)
SECONDS = 90.0
"""Limit of one reply on a machine that is busy."""

LOOK = """(() => {
  const all = [...document.querySelectorAll("*")];
  const alive = "script,iframe,object,embed,img,form,base,video,audio,portal,frame";
  return {
    scripts: document.scripts.length,
    handlers: all.filter(e => [...e.attributes].some(a => /^on/i.test(a.name))).length,
    alive: document.querySelectorAll(alive).length,
    metas: document.querySelectorAll("meta[http-equiv]").length,
    styles: document.querySelectorAll("style,link[rel=stylesheet]").length,
    outside: [...document.querySelectorAll("[href]")].map(e => e.getAttribute("href"))
      .filter(h => h[0] !== "#" && h !== "data:,").length,
    text: document.body.innerText,
    hidden: document.documentElement.textContent.length,
    title: document.title,
  };
})()"""
"""What a page is made of, as the browser has understood it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a page in the browser."""

    facts: dict[str, Any]
    """As `LOOK` finds them."""
    requests: tuple[str, ...]
    """Addresses that it asked for, besides its own."""
    dialogs: tuple[str, ...]
    """What was shown in boxes by scripts."""


def find_browser() -> str | None:
    """Return where a browser is installed, if one is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One tab of a browser."""

    def __init__(self, commands: int, replies: int) -> None:
        """Take the two ends of the pipe, and open the tab."""
        self.commands = commands
        self.replies = replies
        self.buffer = b""
        self.number = 0
        self.session = ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        self.ask("Page.enable")
        self.ask("Network.enable")

    def ask(self, method: str, **values: Any) -> dict[str, Any]:
        """Send a command and wait for its result; a dialog meanwhile is closed."""
        number = self.send(method, **values)
        while True:
            message = self.receive()
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return dict(message["result"])
            self.note(message)

    def send(self, method: str, **values: Any) -> int:
        """Send a command and return its number."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": values}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        return self.number

    def receive(self) -> dict[str, Any]:
        """Return the next message."""
        end = time.monotonic() + SECONDS
        while b"\0" not in self.buffer:
            left = end - time.monotonic()
            ready, _, _ = select.select([self.replies], [], [], max(0.0, left))
            part = os.read(self.replies, 1 << 20) if ready else b""
            assert part, "the browser does not reply"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return dict(json.loads(message))

    def note(self, message: dict[str, Any]) -> None:
        """Keep an event; close a dialog, which would hold up the page."""
        if "method" in message:
            self.events.append(message)
        if message.get("method") == "Page.javascriptDialogOpening":
            self.send("Page.handleJavaScriptDialog", accept=True)

    def look_at(self, page: Path, *, scripts: bool = True) -> Seen:
        """Load a page, wait until it is still, and say what became of it."""
        self.events.clear()
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        url = page.resolve().as_uri()
        self.ask("Page.navigate", url=url)
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self.note(self.receive())
        found = self.ask("Runtime.evaluate", expression=LOOK, returnByValue=True)
        return Seen(
            dict(found["result"]["value"]),
            tuple(
                address
                for event in self.events
                if event["method"] == "Network.requestWillBeSent"
                and (address := event["params"]["request"]["url"])
                not in (url, "data:,")
            ),
            tuple(
                event["params"]["message"]
                for event in self.events
                if event["method"] == "Page.javascriptDialogOpening"
            ),
        )


@contextmanager
def open_browser(program: str, profile: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    theirs, commands = os.pipe()
    replies, ours = os.pipe()
    # The browser reads commands from descriptor 3 and writes to 4; only bash among the
    # usual shells takes numbers of two digits for the others.
    script = f'exec "$@" 3<&{theirs} 4>&{ours}'
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", program, f"--user-data-dir={profile}", *FLAGS],
        pass_fds=(theirs, ours),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs)
    os.close(ours)
    try:
        yield Browser(commands, replies)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(commands)
        os.close(replies)
