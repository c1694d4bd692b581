"""What the terminal shows: harmless texts, honest rates, tables that fit."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
import time
import tomllib
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from neuron_opsd.cli import main
from neuron_opsd.cli.terminal import Pace, Terminal, numbers
from neuron_opsd.cli.text import (
    clean,
    duration,
    fitting_table,
    one_line,
    plain_values,
    size,
)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


class Screen(io.StringIO):
    """A stream that says it is a screen."""

    def isatty(self) -> bool:
        """Say that somebody watches."""
        return True


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("plain\n\ttext: äß漢字🙂", "plain\n\ttext: äß漢字🙂"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07a", "a"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;aGk=\x07", ""),
        ("\x9b2Ja\x9d0;t\x9cb", "ab"),
        ("\x1bPq#0\x1b\\a", "a"),
        ("\x1b]0;never ended", "0;never ended"),
        ("\x1bc", ""),
        ("a\rb\x08c\x00d\x7fe", "abcde"),
        ("\u202eevil\u2066x\u2069\u200f", "evilx"),
        ("a\u2028b", "ab"),
        ("\ud800", "\ufffd"),
    ],
)
def test_what_a_terminal_would_obey_is_taken_out(text: str, harmless: str) -> None:
    assert clean(text) == harmless


NASTY = st.text(st.sampled_from("\x1b[]P\\\x07\x9b\x9d\x9c;0m\u202e\ud800\r\nax"))


@given(NASTY | st.text())
def test_nothing_is_left_to_obey(text: str) -> None:
    left = clean(text)
    assert {unicodedata.category(c) for c in left} & {"Cc", "Cs"} <= (
        {"Cc"} if set(left) & set("\n\t") else set()
    )
    assert not set(left) & set("\x1b\x9b\x9d\u202e\r")
    assert clean(left) == left


def test_a_long_text_becomes_one_short_line() -> None:
    assert one_line("a\n b\t\x1b[1mc") == "a b c"
    assert one_line("x" * 100, width=10) == "x" * 9 + "…"


def test_times_and_sizes_are_short() -> None:
    assert [duration(s) for s in (-1, 0.4, 59.6, 3599, 36000)] == [
        "0:00",
        "0:00",
        "1:00",
        "59:59",
        "10:00:00",
    ]
    assert [size(b) for b in (0, 1023, 1024, 1.5 * 2**20, 2**42)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 MiB",
        "4.0 TiB",
    ]


def test_values_become_what_json_can_hold() -> None:
    values = {"a": math.nan, "b": (1, math.inf), 3: None, "c": {"d": True}}
    assert plain_values(values) == {
        "a": None,
        "b": [1, None],
        "3": None,
        "c": {"d": True},
    }


def test_the_rate_is_units_over_time() -> None:
    clock = Clock()
    pace = Pace(10, clock)
    assert (pace.rate, pace.left) == (None, None)
    clock.now += 20
    pace.add(1)
    assert pace.rate == pytest.approx(0.05)
    assert pace.left == pytest.approx(180)
    clock.now += 5
    assert pace.left == pytest.approx(175)
    assert numbers(pace, "steps") == "1/10 · 3.0 steps/min · 0:25 · 2:55 left"


def test_what_an_earlier_run_did_does_not_make_a_stage_look_fast() -> None:
    clock = Clock()
    pace = Pace(100, clock)
    for _ in range(9):
        clock.now += 0.01
        pace.add(10)
    assert pace.rate is None
    clock.now += 2
    pace.add(1)
    assert pace.rate == pytest.approx(0.5)
    assert pace.left == pytest.approx(18)


def test_the_time_of_a_finished_stage_stands_still() -> None:
    clock = Clock()
    pace = Pace(1, clock)
    clock.now += 3
    pace.add(1)
    clock.now += 60
    assert pace.elapsed == 3


@given(st.lists(st.tuples(st.floats(-5, 50), st.integers(0, 20)), max_size=20))
def test_time_left_is_never_negative_whatever_the_clock_does(
    steps: list[tuple[float, int]],
) -> None:
    clock = Clock()
    pace = Pace(50, clock)
    for seconds, units in steps:
        clock.now += seconds
        pace.add(units)
        assert pace.left is None or pace.left >= 0
        assert pace.elapsed >= 0


def test_lines_come_now_and_then_where_there_is_no_screen() -> None:
    clock, err = Clock(), io.StringIO()
    terminal = Terminal(io.StringIO(), err, clock=clock)
    with terminal.stage("rollouts", 100, "questions") as advance:
        for _ in range(100):
            clock.now += 0.4
            advance(1)
    lines = err.getvalue().splitlines()
    assert lines == [
        "rollouts: 38/100 · 2.5 questions/s · 0:15 · 0:25 left",
        "rollouts: 76/100 · 2.5 questions/s · 0:30 · 0:10 left",
        "rollouts: 100 questions in 0:40",
    ]


def test_bars_are_drawn_on_a_screen_and_survive_stages_within_stages() -> None:
    err = Screen()
    terminal = Terminal(io.StringIO(), err)
    for _ in range(2):
        with (
            terminal.stage("outer [bold]", 2, "parts") as outer,
            terminal.stage("inner", 3, "steps") as inner,
        ):
            inner(3)
            outer(1)
            terminal.warn("careful [red]\x1b]0;x\x07")
    drawn = err.getvalue()
    assert "outer [bold]" in drawn
    assert "3/3" in drawn
    assert "warning: careful [red]" in drawn
    assert "\x1b]0;" not in drawn


def test_a_stage_that_fails_passes_its_error_on() -> None:
    for err in (Screen(), io.StringIO()):
        terminal = Terminal(io.StringIO(), err)
        with pytest.raises(ZeroDivisionError):
            fail_within_a_stage(terminal)


def fail_within_a_stage(terminal: Terminal) -> None:
    with terminal.stage("a", 2, "b") as advance:
        advance(1)
        raise ZeroDivisionError


def test_quiet_shows_warnings_only() -> None:
    err = io.StringIO()
    terminal = Terminal(io.StringIO(), err, quiet=True)
    with terminal.stage("a", 1, "b") as advance:
        advance(1)
    terminal.note("in passing")
    terminal.warn("mind this")
    assert err.getvalue() == "warning: mind this\n"


def test_results_survive_a_stream_of_few_characters() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    terminal = Terminal(out, io.StringIO())
    terminal.show("an ä")
    terminal.show_json({"a": "ä\x1b"})
    terminal.show_table(["a", "b"], [["x", "1"]])
    text = raw.getvalue().decode("ascii")
    assert text.startswith("an \\xe4\n")
    assert '"a": "\\u00e4\\u001b"' in text


CELLS = ["sst2-sentiment", "52.1 %", "53.0 %", "60.1 %", "61.0 %", "67.4 %"]
CELLS += ["+15.3 [+12.1 to +18.5]", "+6.4 [+2.0 to +10.9]", "0.380", "0.233"]
HEADINGS = ["test set", "base Avg@8", "base Maj@8", "base + own demos", "form-only"]
HEADINGS += ["trained", "difference (points)", "net of form (points)"]
HEADINGS += ["ECE before", "ECE after"]


@pytest.mark.parametrize("width", [200, 100, 80])
def test_the_table_of_results_fits(width: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=width)
    console.print(fitting_table(HEADINGS, [CELLS, CELLS], width))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    # No number is torn: each stands whole somewhere.
    for cell in CELLS[1:]:
        for part in re.findall(r"\[.*\]|\S+ %|\S+", cell):
            assert any(part in line for line in lines), (part, stream.getvalue())


def test_a_table_too_wide_either_way_is_divided() -> None:
    stream = io.StringIO()
    names = [f"balanced-nearest-{number}" for number in range(12)]
    rows = [[name, *CELLS[1:]] for name in names]
    Console(file=stream, width=60).print(fitting_table(HEADINGS, rows, 60))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 60
    parts = text.count("test set")
    assert parts > 1
    for word in names:
        assert text.count(f"{word} ") == parts, text
    for word in " ".join([*HEADINGS[1:], *CELLS[1:]]).split():
        assert word in text, text


def test_cells_are_no_markup() -> None:
    stream = io.StringIO()
    Console(file=stream, width=80).print(
        fitting_table(["[b]a", "b"], [["[red]x[/red]\x1b[31m", "1"]], 80)
    )
    assert {"[b]a", "[red]x[/red]"} <= set(stream.getvalue().split())


ENCODINGS = ("ascii", "latin-1", "cp1252", "koi8-r", "shift-jis", "utf-8", "utf-16")
FOREIGN = "é → 数 🙂 \ud800 \x1b]52;c;AAAA\x07\x9b31m\x1b[2J\u202e\u2066 \u22120.2 ≤ π…"


def streams(encoding: str) -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
    """Return streams as Python opens them for a terminal of some encoding."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    return out, err


def said(stream: io.TextIOWrapper, encoding: str) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_encoding_loses_what_is_said(encoding: str) -> None:
    out, err = streams(encoding)
    terminal = Terminal(out, err)
    terminal.show(FOREIGN)
    terminal.show_table(["metric", FOREIGN], [[FOREIGN, "\u22120.2 [\u22120.3, 0.1]"]])
    terminal.show_json({"a": FOREIGN, "b": [FOREIGN]})
    terminal.note(FOREIGN)
    terminal.warn(FOREIGN)
    with terminal.stage(FOREIGN, 2, "π") as done:
        done(2)
    for text in (said(out, encoding), said(err, encoding)):
        assert not set(text) & set("\x1b\x07\x9b\u202e\u2066\ud800")
    assert "0.2" in said(out, encoding)
    assert "e9" in said(err, encoding) or "é" in said(err, encoding)
    document = said(out, encoding)
    assert json.loads(document[document.index("{") :])["a"] == FOREIGN


def test_our_own_signs_have_plain_ones() -> None:
    out, err = streams("ascii")
    Terminal(out, err).show("\u22120.2 ± 0.1 · → … ≤ é")
    assert said(out, "ascii") == "-0.2 +- 0.1 - -> ... <= \\xe9\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_settings_mean_the_same_in_every_encoding(encoding: str) -> None:
    text = 'x = "\u2212é🙂\u202e\u2028\u200f tab\\t"'
    out, err = streams(encoding)
    Terminal(out, err).show_toml(text)
    written = said(out, encoding)
    assert tomllib.loads(written) == tomllib.loads(text)
    assert not set(written) & set("\u202e\u2028\u200f")


@pytest.mark.parametrize("opening", ["\x9d", "\x1b]", "\x90", "\x9b", "\x1b[", "\x1b"])
def test_openings_that_nothing_ends_take_no_time(opening: str) -> None:
    start = time.process_time()
    assert not set(clean(opening * 30_000)) & {"\x1b", "\x9d", "\x90", "\x9b"}
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_does_no_harm(
    closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command, status in (("config", 0), ("no-such-command", 2)):
        monkeypatch.setattr(sys, closed, None)
        assert main([command]) == status
        getattr(sys, closed).close()


@pytest.mark.parametrize(("command", "status"), [("config", 0), ("no-such-command", 2)])
def test_a_full_disk_behind_stderr_keeps_the_exit_status(
    command: str, status: int
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        program = [sys.executable, "-m", "neuron_opsd", command]
        done = subprocess.run(
            program, stdout=subprocess.DEVNULL, stderr=full, check=False
        )
    assert done.returncode == status


def test_printed_settings_are_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = streams("ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["config", "--set", "prompts.system=\u2212 \u202e é"]) == 0
    assert tomllib.loads(said(out, "ascii"))["prompts"]["system"] == "\u2212 \u202e é"
