"""A hub on this machine: what is asked of it over HTTP, and what it was sent."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """What a stand-in heard."""

    address: str = ""
    repositories: set[str] = field(default_factory=set)
    """Those that exist."""
    status: int = 200
    """Of every answer, where it is not 200."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each."""
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    """What was committed."""
    commits: int = 0


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub's interface does, as far as a publication needs it."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""
        del format, args

    def do_GET(self) -> None:
        """Say who asks."""
        self.hub.requests.append(("GET", self.path))
        self.reply(200, {"name": "alice", "type": "user", "orgs": []})

    def do_POST(self) -> None:
        """Take a repository, the names of files, or a commit."""
        self.hub.requests.append(("POST", self.path))
        size = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(size) if size else self.chunks()
        if self.hub.status != 200:
            self.reply(self.hub.status, {"error": "no"})
        elif self.path == "/api/repos/create":
            self.create(json.loads(data))
        elif self.path == "/api/validate-yaml":
            self.reply(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self.take_names(json.loads(data))
        elif "/commit/" in self.path:
            self.commit(data)
        else:
            self.reply(404, {"error": "unknown"})

    def chunks(self) -> bytes:
        """Return a body whose length is not told."""
        found = b""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return found
        while size := int(self.rfile.readline().strip() or b"0", 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def create(self, asked: dict[str, Any]) -> None:
        """Make a repository that does not exist."""
        name = f"{asked.get('organization') or 'alice'}/{asked['name']}"
        place = {"url": f"{self.hub.address}/{name}", "name": name}
        if name in self.hub.repositories:
            self.reply(409, {"error": "exists"} | place)
            return
        self.hub.repositories.add(name)
        self.hub.created.append(asked)
        self.reply(200, place)

    def take_names(self, asked: dict[str, Any]) -> None:
        """Ask for every file within the commit itself."""
        modes = [
            {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
            for one in asked["files"]
        ]
        self.reply(200, {"files": modes})

    def commit(self, data: bytes) -> None:
        """Take the files of a commit."""
        self.hub.commits += 1
        for line in data.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                value = entry["value"]
                self.hub.files[value["path"]] = base64.b64decode(value["content"])
        name = self.path.removeprefix("/api/models/").partition("/commit/")[0]
        url = f"{self.hub.address}/{name}/commit/abc"
        self.reply(200, {"commitUrl": url, "commitOid": "abc", "pullRequestUrl": None})

    def reply(self, status: int, table: dict[str, Any]) -> None:
        """Answer with JSON."""
        body = json.dumps(table).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Give a hub that listens on loopback until the end."""
    hub = Hub()
    handler = type("OwnHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
