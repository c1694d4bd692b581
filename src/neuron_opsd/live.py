"""The page of a run in progress, for browsers on this machine only.

It is rendered on every request. The server only reads, and only a few paths.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from markupsafe import Markup

from neuron_opsd.errors import ConfigError, DataError, NeuronOpsdError
from neuron_opsd.report import wording
from neuron_opsd.report.condense import training_summary
from neuron_opsd.report.html import Column, Table, render_template, row_of, table_of
from neuron_opsd.report.run_charts import training_chart
from neuron_opsd.runs.metrics import read_metrics
from neuron_opsd.storage.codecs import without_nan
from neuron_opsd.storage.disk import read_plain
from neuron_opsd.storage.folders import COMPARISON_PAGE, PROBE_PAGE, RUN_PAGE, TRAIN
from neuron_opsd.storage.status import ComparisonStatus, RunStatus, read_status

REFRESH: Final = 5
"""Seconds between reloads while something runs."""
STOPPED: Final = "Stopped; the command that started it resumes it."
PAGES: Final = (RUN_PAGE, COMPARISON_PAGE, PROBE_PAGE)
"""Finished pages, at most one per folder."""

LOOPBACK: Final = "127.0.0.1"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""For all responses; the pages also carry a stricter policy."""
HTML: Final = "text/html; charset=utf-8"
SECONDS: Final = 10.0
"""Idle timeout of a connection."""

Place: TypeAlias = tuple[str, Callable[[], bytes]]
"""Content type of a path, and what renders it."""


def render_live(folder: Path) -> str:
    """Render the current page of a run or comparison.

    Raises:
        NeuronOpsdError: If the folder is neither, or damaged.
    """
    return render_template("live.html.jinja", context(read_status(folder), folder))


def context(found: RunStatus | ComparisonStatus, folder: Path) -> dict[str, Any]:
    """Collect template variables."""
    running = is_running(found)
    places = (folder / name for name in PAGES)
    page = next((p for p in places if p.is_file() and not p.is_symlink()), None)
    values: dict[str, Any] = {
        "data": {"title": folder.resolve().name},
        "outcome": state_of(found, running=running),
        "refresh": REFRESH if running or not found.finished else 0,
        "report": None if page is None else page.name,
        "amiss": found.amiss,
        "kind": "comparison",
        "steps": None,
        "last": (),
        "chart": Markup(""),
    }
    if isinstance(found, ComparisonStatus):
        return values | {"table_": group_table(found)}
    return values | {
        "kind": "run",
        "table_": stage_table(found),
        "steps": (found.steps_done, found.steps_total),
        "last": [
            (name.replace("_", " "), wording.number(value))
            for name, value in found.last_step.items()
            if isinstance(value, float)
        ],
        "chart": training_chart(training_summary(read_metrics(folder / TRAIN)), ()),
    }


def is_running(found: RunStatus | ComparisonStatus) -> bool:
    """Say whether a process works in the folder."""
    if isinstance(found, RunStatus):
        return found.holder is not None
    return any(group.holder is not None for group in found.blocks)


def state_of(found: RunStatus | ComparisonStatus, *, running: bool) -> str:
    """Describe the current state in a sentence."""
    if running:
        holder = found.holder if isinstance(found, RunStatus) else ""
        return f"Running, {holder}." if holder else "Running."
    if found.amiss:
        return "Damaged; the command that started it rebuilds what it can."
    return "Finished." if found.finished else STOPPED


def stage_table(found: RunStatus) -> Table:
    """Return the progress of every stage."""
    columns = (
        Column("state", text=True),
        Column("file or progress", text=True),
        Column("seconds"),
    )
    rows = [
        row_of(
            stage.name,
            "done" if stage.done else "begun",
            stage.progress,
            "" if stage.seconds is None else f"{stage.seconds:,.1f}",
        )
        for stage in found.stages
    ]
    return table_of("Stages", "stage", columns, rows)


def group_table(found: ComparisonStatus) -> Table:
    """Return the progress of every run group."""
    columns = (Column("models done"), Column("begun", text=True), Column("running"))
    rows = [
        row_of(
            group.name,
            str(len(group.models_done)),
            group.begun,
            "yes" if group.holder else "",
        )
        for group in found.blocks
    ]
    return table_of("Run groups", "run group", columns, rows)


def places_of(folder: Path) -> Mapping[str, Place]:
    """Return everything served for a run or comparison, by path."""

    def page() -> bytes:
        return render_live(folder).encode()

    def status() -> bytes:
        table = without_nan(asdict(read_status(folder)))
        return (json.dumps(table, default=str, indent=2) + "\n").encode()

    finished = {f"/{name}": (HTML, partial(file_in, folder, name)) for name in PAGES}
    kind = "application/json"
    return {"/": (HTML, page), "/status.json": (kind, status), **finished}


def file_in(folder: Path, name: str) -> bytes:
    """Read a file of the folder; refuse links, which may lead outside.

    Raises:
        DataError: If there is no such file.
    """
    if (folder / name).is_symlink():
        raise DataError(f"{name} is a link, and links are not served")
    return read_plain(folder / name)


class Server(ThreadingHTTPServer):
    """Serves loopback only, and only under loopback host names."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        """Listen on a port; 0 picks a free one."""
        self.places = places_of(folder)
        super().__init__((LOOPBACK, port), Handler)

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{LOOPBACK}:{self.port}/"


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for known paths only.

    Paths match literally, so none leads elsewhere. The Host header must name loopback;
    else a foreign site whose name resolves here could read pages.
    """

    server: Server
    timeout = SECONDS
    server_version = "neuron-opsd"
    sys_version = ""

    def do_GET(self) -> None:
        """Send a path's content."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Send a path's headers."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        status, kind, body = self._found()
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _found(self) -> tuple[HTTPStatus, str, bytes]:
        """Return the response: status, content type and body."""
        plain = "text/plain; charset=utf-8"
        hosts = {f"{name}:{self.server.port}" for name in (LOOPBACK, "localhost")}
        if self.headers.get_all("Host") not in [[host] for host in hosts]:
            return (
                HTTPStatus.FORBIDDEN,
                plain,
                b"open it by the address that watch says\n",
            )
        place = self.server.places.get(urlsplit(self.path).path)
        if place is None:
            return HTTPStatus.NOT_FOUND, plain, b"there is nothing here\n"
        kind, make = place
        try:
            return HTTPStatus.OK, kind, make()
        except NeuronOpsdError as error:
            return HTTPStatus.NOT_FOUND, plain, f"{error}\n".encode()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as its base
        """Log nothing per request."""


@contextmanager
def listening(folder: Path, port: int) -> Iterator[Server]:
    """Yield a server for an existing run or comparison.

    Raises:
        ConfigError: If the port is unavailable.
        DataError: If the folder is neither.
    """
    read_status(folder)
    try:
        server = Server(folder, port)
    except OverflowError:
        raise ConfigError(
            f"--port is {port}, but it must be from 0 to 65535; 0 takes a free one"
        ) from None
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise ConfigError(
            f"--port is {port}, which is in use or not allowed; give another one, or 0 "
            "for any free one"
        ) from None
    with server:
        yield server
