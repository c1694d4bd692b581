"""The page of a run while it works: what it says, to whom, and what it leaves alone."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.live import REFRESH, Server, listening, render_live
from neuron_opsd.storage.lock import locked
from places import SOURCES
from tiny_runs import FinishedRun, files_of

Answer = tuple[int, dict[str, str], str]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve a folder in a thread."""
    with listening(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(
    server: Server, path: str, method: str = "GET", host: str | None = None
) -> Answer:
    """Ask for a path exactly as it stands."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", f"127.0.0.1:{server.port}" if host is None else host)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body


@pytest.fixture
def run(finished_run: FinishedRun, tmp_path: Path) -> Path:
    """Give a copy of a finished run."""
    return Path(shutil.copytree(finished_run.folder, tmp_path / "a <b>run"))


def test_a_running_run_is_shown_as_it_goes_on_and_not_disturbed(run: Path) -> None:
    (run / "report.html").unlink()
    metrics = run / "train" / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[:2]))
    with locked(run), serving(run) as server:
        before = files_of(run)
        status, headers, page = ask(server, "/")
        assert status == 200
        assert headers["content-type"].startswith("text/html")
        assert f'http-equiv="refresh" content="{REFRESH}"' in page
        assert "Running, process" in page
        assert "training steps: 2 of 4" in page
        assert "Loss and entropy during training" in page
        assert "a &lt;b&gt;run" in page
        assert "<b>" not in page
        assert ask(server, "/report.html")[0] == 404
        metrics.write_text("".join(lines[:3]))
        assert "training steps: 3 of 4" in ask(server, "/")[2]
        metrics.write_text("".join(lines[:2]))
        told = json.loads(ask(server, "/status.json")[2])
        assert told["steps_done"] == 2
        assert files_of(run) == before


def test_a_finished_run_is_shown_with_its_report(run: Path) -> None:
    with serving(run) as server:
        page = ask(server, "/")[2]
        assert "Finished." in page
        assert "refresh" not in page
        assert 'href="/report.html"' in page
        status, headers, report = ask(server, "/report.html")
        assert (status, report) == (200, (run / "report.html").read_text())
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        status, headers, body = ask(server, "/report.html", "HEAD")
        assert (status, body) == (200, "")
        assert int(headers["content-length"]) == len(report.encode())


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/manifest.json",
            "/adapter/adapter_model.safetensors",
            "/config.toml",
            "///x",
        ),
        *("/../run/report.html", "/report.html/", "/%2e%2e/x", "/./report.html"),
        *("/report.html%00", "/..%2f..%2fetc/passwd", "/../../../../etc/passwd"),
        *("http://127.0.0.1/etc/passwd", "*"),
    ],
)
def test_no_path_leads_out_of_what_is_served(run: Path, path: str) -> None:
    with serving(run) as server:
        status, _, body = ask(server, path)
        assert (status, body) == (404, "there is nothing here\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_answered(run: Path, method: str) -> None:
    with serving(run) as server:
        assert ask(server, "/", method)[0] == 501


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1"]
)
def test_a_page_of_elsewhere_is_told_nothing(run: Path, host: str) -> None:
    with serving(run) as server:
        status, _, body = ask(server, "/", host=host.format(port=server.port))
        assert status == 403
        assert "training" not in body
        assert ask(server, "/", host=f"localhost:{server.port}")[0] == 200


def test_the_server_listens_on_loopback_alone(run: Path) -> None:
    with serving(run) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert server.address == f"http://127.0.0.1:{server.port}/"
        with pytest.raises(ConfigError, match="is in use or not allowed"):
            listening(run, server.port).__enter__()
    with pytest.raises(ConfigError, match="from 0 to 65535"):
        listening(run, 70_000).__enter__()
    with pytest.raises(DataError, match="is not a run directory"):
        listening(run / "adapter", 0).__enter__()


def test_a_link_in_the_place_of_a_report_leads_nowhere_else(
    run: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (run / "report.html").unlink()
    (run / "report.html").symlink_to(secret)
    with serving(run) as server:
        status, _, body = ask(server, "/report.html")
        assert (status, "secret" in body) == (404, False)
        assert 'href="/report.html"' not in ask(server, "/")[2]


def test_a_comparison_is_shown_by_its_groups(run: Path, tmp_path: Path) -> None:
    group = tmp_path / "compared" / "blocks" / "law" / "seed-0" / "base"
    shutil.copytree(run, group)
    page = render_live(tmp_path / "compared")
    assert "law seed-0 base" in page
    assert "comparison" in page


def test_the_command_serves_until_it_is_stopped(run: Path) -> None:
    argv = [sys.executable, "-m", "neuron_opsd", "watch", str(run), "--port", "0"]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(SOURCES)}
    )
    assert process.stdout is not None
    address = process.stdout.readline()
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\n", address)
    assert found is not None
    connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
    connection.request("GET", "/")
    assert b"Finished." in connection.getresponse().read()
    connection.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    process.stdout.close()
