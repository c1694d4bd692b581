"""Clock, time zone and locale change nothing of what a run must end with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import date
from itertools import count
from pathlib import Path

import pytest

import template_day
from neuron_opsd.models.tokenizer.template_worker import write_day
from tiny_runs import (
    FinishedRun,
    command_line,
    outcome_of,
    read_json,
    tiny_config,
    tiny_request,
    tiny_run,
)

DAY = 86_400.0
PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Of a machine on which nothing is UTF-8."""

PLACES = (
    {**PLAIN, "TZ": "Pacific/Kiritimati"},
    {"LC_ALL": "tr_TR.ISO-8859-9", "PYTHONUTF8": "0", "TZ": "America/St_Johns"},
    {"LC_ALL": "de_DE.UTF-8", "TZ": "Europe/Berlin"},
    {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0", "TZ": "Asia/Kathmandu"},
    {**PLAIN, "PYTHONIOENCODING": "ascii", "TZ": "UTC-26:30"},
    {**PLAIN, "TZ": "no/such/zone", "PYTHONHASHSEED": "7"},
)


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make the locales of `PLACES` where that is possible; else the C locale serves."""
    folder = tmp_path_factory.mktemp("locales")
    program = shutil.which("localedef")
    for place in PLACES:
        name, _, charset = place["LC_ALL"].partition(".")
        if program and charset:
            command = [
                program,
                "-i",
                name,
                "-f",
                charset,
                str(folder / place["LC_ALL"]),
            ]
            subprocess.run(command, check=False, capture_output=True)
    return {"LOCPATH": str(folder)}


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the wall clock jump a day at every look, forwards and back."""
    looks, real = count(), time.time
    monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(looks) * DAY)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def seconds_in(run: Path) -> list[float]:
    """Return all times that a manifest tells."""
    manifest = read_json(run / "manifest.json")
    stages = [output["seconds"] for output in manifest["outputs"].values()]
    told = [*stages, *manifest["facts"].get("seconds", {}).values()]
    return [seconds for seconds in told if seconds is not None]


@pytest.mark.usefixtures("jumping")
def test_a_run_does_not_heed_the_wall_clock(
    tiny_llama: Path, tmp_path: Path, finished_run: FinishedRun
) -> None:
    request = tiny_request(tmp_path)
    form_only = finished_run.config.evaluation.form_only
    config = tiny_config(tiny_llama, f"evaluation.form_only={str(form_only).lower()}")
    assert config.model_dump(exclude={"model"}) == finished_run.config.model_dump(
        exclude={"model"}
    )
    tiny_run(request, config)
    assert outcome_of(request.out) == outcome_of(finished_run.folder)
    assert min(seconds_in(request.out)) >= 0.0
    assert "-0:" not in (request.out / "report.html").read_text(encoding="utf-8")


def run_in(place: Mapping[str, str], folder: Path, model: Path) -> dict[str, bytes]:
    """Run the command in a process of another place; return what must be the same."""
    request = tiny_request(folder)
    words = command_line(request, model, ["evaluation.form_only=true"])
    words.remove("--quiet")
    done = subprocess.run(
        [sys.executable, "-m", "neuron_opsd", *words],
        env={**os.environ, **place},
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr.decode("ascii", "replace")
    assert b"-0:" not in done.stderr
    return promised(request.out)


def promised(run: Path) -> dict[str, bytes]:
    """Return all that must be the same, and what it was made from."""
    names = ("rollouts.parquet", "selection.json", "contexts.json", "config.toml")
    return {**outcome_of(run), **{name: (run / name).read_bytes() for name in names}}


@pytest.mark.long
def test_a_run_ends_alike_in_every_place(
    tiny_llama: Path, tmp_path: Path, locales: dict[str, str]
) -> None:
    found = [
        run_in({**locales, **place}, tmp_path / str(number), tiny_llama)
        for number, place in enumerate(PLACES)
    ]
    assert all(one == found[0] for one in found)


def test_days_are_written_in_english_and_universal_time() -> None:
    marks = [
        f"%{flag}{letter}" for flag in ("", "-") for letter in "aAbBhcprxXdmyYjHMS"
    ]
    for month in range(1, 13):
        day = date(2026, month, month + 3)
        for mark in marks:
            assert write_day(day, mark) == day.strftime(mark), mark
    assert write_day(date(1970, 1, 2), "%s %%s %d") == "86400 %s 02"


def test_a_template_prints_the_same_day_in_every_locale(
    locales: dict[str, str],
) -> None:
    for place in ("de_DE.UTF-8", "tr_TR.ISO-8859-9"):
        if not (Path(locales["LOCPATH"]) / place).is_dir():
            pytest.skip(f"the locale {place} cannot be made here")
    done = subprocess.run(
        [sys.executable, template_day.__file__],
        env={
            **os.environ,
            **locales,
            "LC_ALL": "de_DE.UTF-8",
            "TZ": "Asia/Kathmandu",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == template_day.template_day()
    assert template_day.template_day() == "Sunday, 3 May: Sun May  3 00:00:00 2026"
