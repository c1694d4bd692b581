"""The page of a run while it works, served to the browsers of this machine alone.

It is made again at every look. The server only reads, and only a few places.
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
"""Seconds after which a browser looks again, while something runs."""
STOPPED: Final = "Stopped; the command that started it resumes it."
PAGES: Final = (RUN_PAGE, COMPARISON_PAGE, PROBE_PAGE)
"""Finished pages, of which a folder has one at most."""

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
"""Of every answer; the pages have a stricter policy of their own besides."""
HTML: Final = "text/html; charset=utf-8"
SECONDS: Final = 10.0
"""After which a connection that says nothing is closed."""

Place: TypeAlias = tuple[str, Callable[[], bytes]]
"""Kind of what a place holds, and what makes it."""


def render_live(folder: Path) -> str:
    """Return the page of a run or a comparison as it is now.

    Raises:
        NeuronOpsdError: If the folder is neither, or what it says is damaged.
    """
    return render_template("live.html.jinja", context(read_status(folder), folder))


def context(found: RunStatus | ComparisonStatus, folder: Path) -> dict[str, Any]:
    """Return what the template names."""
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
    """Say in a sentence what is going on."""
    if running:
        holder = found.holder if isinstance(found, RunStatus) else ""
        return f"Running, {holder}." if holder else "Running."
    if found.amiss:
        return "Not whole; the command that started it makes again what it can."
    return "Finished." if found.finished else STOPPED


def stage_table(found: RunStatus) -> Table:
    """Return what is done of every stage."""
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
    """Return what is done of every run group."""
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
    """Return all that is served of a run or a comparison, by its path."""

    def page() -> bytes:
        return render_live(folder).encode()

    def status() -> bytes:
        table = without_nan(asdict(read_status(folder)))
        return (json.dumps(table, default=str, indent=2) + "\n").encode()

    finished = {f"/{name}": (HTML, partial(file_in, folder, name)) for name in PAGES}
    kind = "application/json"
    return {"/": (HTML, page), "/status.json": (kind, status), **finished}


def file_in(folder: Path, name: str) -> bytes:
    """Return what a file of the folder holds; a link might lead elsewhere.

    Raises:
        DataError: If there is no such file.
    """
    if (folder / name).is_symlink():
        raise DataError(f"{name} is a link, and what it leads to is not served")
    return read_plain(folder / name)


class Server(ThreadingHTTPServer):
    """Serves on loopback; answers only those who ask for it by a name of loopback."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        """Listen on a port; 0 takes a free one."""
        self.places = places_of(folder)
        super().__init__((LOOPBACK, port), Handler)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{LOOPBACK}:{self.port}/"


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of the places that there are, and nothing else.

    The path is looked up as it stands, so none leads out of them. The header Host must
    be a name of loopback: a page of elsewhere whose name is made to point here would
    send its own.
    """

    server: Server
    timeout = SECONDS
    server_version = "neuron-opsd"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with what a place holds."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the headers of the same."""
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
        """Return what is answered: status, kind and body."""
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
        """Say nothing of single requests."""


@contextmanager
def listening(folder: Path, port: int) -> Iterator[Server]:
    """Give a server of a run or a comparison, which must be there.

    Raises:
        ConfigError: If the port cannot be had.
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
            f"--port is {port}, which another program has or which is not yours; give "
            "another one, or 0 for any that is free"
        ) from None
    with server:
        yield server
