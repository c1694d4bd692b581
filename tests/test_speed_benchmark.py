"""The benchmark's own arithmetic, order and pages; nothing is measured here."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed import driver, worker
from benchmarks.speed.cases import BYTES, CASES, Bar, Case, System
from benchmarks.speed.driver import play, rotated, run_case, started
from benchmarks.speed.job import Facts, Job, Turns, Work
from benchmarks.speed.outcome import (
    Measured,
    Outcome,
    largest_difference,
    roofline_share,
    spread,
)
from benchmarks.speed.prepare import Size, drawing, pieces
from benchmarks.speed.process import Process, QuitError, Setting
from benchmarks.speed.tables import (
    bar_rows,
    bytes_text,
    growth_rows,
    one_line,
    placed,
    seconds_text,
    section,
)

RATES = {"float32": 100e9, "bfloat16": 200e9, "bandwidth": 20e9}

MACHINE = {
    "device": "cpu",
    "processor": "A processor",
    "threads": 2,
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "date": "2026-11-24",
}

OURS = System("ours", "fake:ours", "bfloat16")
PEER = System("peer", "fake:peer", "float32")
WORK = Work("token", flops=100e9, reads=1e9)


class Scripted:
    """A player whose turns take given times; it writes down when it plays."""

    def __init__(self, name: str, seconds: list[float], played: list[str]) -> None:
        self.name = name
        self.seconds = iter(seconds)
        self.played = played

    def turn(self) -> Facts:
        """Take the next time, or quit where there is none."""
        self.played.append(self.name)
        seconds = next(self.seconds, None)
        if seconds is None:
            raise QuitError("out of memory")
        return {"seconds": seconds, "peak": int(1e9 * seconds), "amount": 10, **RATES}

    def stop(self) -> None:
        """Write down that it is over."""
        self.played.append(f"{self.name} stops")


def setting() -> Setting:
    here = Path()
    return Setting(Path(sys.executable), here, here, "cpu", 1, gguf="", neufs="")


def measured(system: System, *seconds: float, **more: object) -> Measured:
    entry = Measured(system, WORK, list(seconds), amount=10, peak=10**9)
    return replace(entry, **more)  # type: ignore[arg-type]


def outcome(*entries: Measured, bars: tuple[Bar, ...] = ()) -> Outcome:
    systems = tuple(entry.system for entry in entries)
    case = Case("fake", "A case", "fake", systems, bars)
    return Outcome(case, list(entries), RATES)


def test_the_spread_of_one_number_is_itself_and_of_five_the_second_and_fourth() -> None:
    assert spread([3.0]) == (3.0, 3.0)
    assert spread([5.0, 1.0, 4.0, 2.0, 3.0]) == (2.0, 4.0)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_the_median_lies_in_the_spread_and_the_order_does_not_matter(
    seconds: list[float],
) -> None:
    low, high = spread(seconds)
    assert low <= measured(OURS, *seconds).typical <= high
    assert spread(seconds[::-1]) == (low, high)


def test_the_roofline_is_the_slower_of_products_and_reading() -> None:
    # 100 GFLOP at 100 GFLOP/s take 1 s, 4 GB at 20 GB/s a fifth of that.
    assert roofline_share(measured(PEER, 2.0), RATES) == pytest.approx(0.5)
    slow = measured(PEER, 2.0, work=Work("token", flops=1.0, reads=10e9))
    assert roofline_share(slow, RATES) == pytest.approx(1.0)


def test_half_precision_is_held_against_the_faster_products() -> None:
    assert roofline_share(measured(OURS, 2.0), RATES) == pytest.approx(0.25)


def test_results_of_float32_systems_are_compared() -> None:
    other = System("other", "fake:other", "float32")
    entries = [
        measured(OURS, 1.0, values=[9.0, 9.0]),
        measured(PEER, 1.0, values=[1.0, 2.0]),
        measured(other, 1.0, values=[1.0, 2.5]),
    ]
    assert largest_difference(entries) == pytest.approx(0.5)
    assert largest_difference(entries[:2]) is None


def test_each_round_begins_with_another_system() -> None:
    assert [rotated("abc", number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert rotated([], 3) == []


def test_systems_take_turns_after_a_warm_up_that_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    played: list[str] = []
    times = {"ours": [9.0, 1.0, 2.0, 3.0], "peer": [9.0, 4.0, 5.0, 6.0]}

    def start(entry: Measured, at: Setting) -> Scripted:
        del at
        return Scripted(entry.system.label, times[entry.system.label], played)

    monkeypatch.setattr(driver, "started", start)
    monkeypatch.setattr(driver, "prepared", lambda *_: WORK)
    machine = Scripted("machine", [1.0] * 3, played)
    case = Case("fake", "A case", "fake", (OURS, PEER))
    found = run_case(case, setting(), machine, 3, lambda _: None)
    assert played == [
        *("ours", "peer"),
        *("machine", "ours", "peer"),
        *("machine", "peer", "ours"),
        *("machine", "ours", "peer"),
        *("peer stops", "ours stops"),
    ]
    assert [entry.seconds for entry in found.measured] == [
        [1.0, 2.0, 3.0],
        [4.0, 5.0, 6.0],
    ]
    # The warm-up's memory counts: a user has it too.
    assert found.measured[0].peak == 9 * 10**9
    assert found.rates == RATES


def test_a_system_that_quits_is_left_out_and_says_why() -> None:
    played: list[str] = []
    entries = [Measured(OURS, WORK), Measured(PEER, WORK)]
    players = [
        (entries[0], Scripted("ours", [1.0], played)),
        (entries[1], Scripted("peer", [1.0, 2.0, 3.0], played)),
    ]
    for _ in range(3):
        play(players, counts=True)
    assert played == ["ours", "peer", "ours", "peer", "peer"]
    assert (entries[0].problem, entries[0].seconds) == ("out of memory", [])
    assert entries[1].seconds == [1.0, 2.0, 3.0]


def test_a_system_without_what_it_needs_names_the_option() -> None:
    entry = Measured(replace(PEER, needs="neufs"), WORK)
    assert started(entry, setting()) is None
    assert entry.problem == "give --neufs"
    row = section(outcome(measured(OURS, 1.0), entry), MACHINE, 1)
    assert "| peer | not measured: give --neufs |" in row


def test_a_turn_times_the_work_alone() -> None:
    answers: list[Facts] = []
    ticks = iter([10.0, 12.5, 20.0, 21.0])
    turns = Turns(iter(["go\n", "go\n"]), answers.append, clock=lambda: next(ticks))
    turns.repeat(lambda: {"amount": 7})
    assert answers[0] == {}
    assert [answer["seconds"] for answer in answers[1:]] == [2.5, 1.0]
    assert all(answer["amount"] == 7 and answer["peak"] > 0 for answer in answers[1:])


def test_a_job_comes_back_from_json() -> None:
    work = Work("token", prompts=[[1, 2]], completions=[[[3]]], texts=["a"])
    job = Job(work, "model", "cpu", 2, {"precision": "float32"}, "", "")
    assert Job.from_dict(json.loads(json.dumps(asdict(job)))) == job


def test_a_process_answers_and_its_last_words_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = (
        "import sys\n"
        "sys.stdin.readline(); print('{}', flush=True)\n"
        "sys.stdin.readline(); print('{\"seconds\": 1}', flush=True)\n"
        "sys.stdin.readline(); sys.exit('no memory left')\n"
    )
    monkeypatch.setattr("benchmarks.speed.process.COMMAND", ("-c", script))
    job = Job(WORK, "", "cpu", 1, {}, "", "")
    process = Process("fake:ours", job, setting())
    assert process.ready == {}
    assert process.turn() == {"seconds": 1}
    with pytest.raises(QuitError, match="no memory left"):
        process.turn()
    process.stop()


def test_completions_have_one_length_however_short_the_text_is() -> None:
    assert pieces(range(40), 2) == [[*range(32)], [*range(32, 40), *range(24)]]


def test_each_prompt_is_read_once_and_every_sample_is_drawn() -> None:
    # 5 prompt tokens and 2 x 3 samples of 32 tokens meet 10 core weights; the samples
    # meet 4 of the head too.
    flops, reads = drawing(Size(core=10, head=4, kept=1), [[1, 2], [3, 4, 5]], 3)
    assert flops == 2 * 10 * 5 + 2 * 14 * 6 * 32
    assert reads == 10 + 14 * 32 + 32 * (5 + 6 * 16)


def test_bars_are_ratios_of_the_peer_to_ours() -> None:
    bars = (Bar("ours", "peer", "seconds", 2.0), Bar("ours", "peer", "peak", 2.0))
    found = outcome(measured(OURS, 2.0), measured(PEER, 5.0), bars=bars)
    assert bar_rows(found) == [
        ["time of peer / ours", "2", "2.50", "reached"],
        ["peak memory of peer / ours", "2", "1.00", "short"],
    ]


def test_a_bar_whose_peer_gave_nothing_is_not_measured() -> None:
    bars = (Bar("ours", "peer", "seconds", 2.0), Bar("ours", "absent", "peak", 2.0))
    found = outcome(measured(OURS, 2.0), measured(PEER, problem="x"), bars=bars)
    assert bar_rows(found) == [["time of peer / ours", "2", "", "not measured"]]


def test_growth_is_the_time_over_the_work() -> None:
    entries = [
        measured(System(f"{scale}x", "fake:ours", "bfloat16", scale=scale), seconds)
        for scale, seconds in ((1, 2.0), (2, 4.0), (4, 6.0))
    ]
    rows = growth_rows(outcome(*entries))[2:]
    assert [row.split(" | ")[3] for row in rows] == ["1.00", "1.00", "0.75"]


def test_a_section_names_machine_versions_rates_and_systems() -> None:
    text = section(outcome(measured(OURS, 2.0), measured(PEER, 3.0)), MACHINE, 5)
    for part in ("A processor, 2 threads", "torch 2.13.0", "5 rounds", "20.0 GB/s"):
        assert part in text
    assert "| ours | 2 s | 2 s to 2 s | 5 tokens/s | 1.00 | 1,000 MB | 25 % |" in text
    assert "| peer | 3 s |" in text
    assert "stored" not in text


def test_figures_are_kept_as_plain_values() -> None:
    found = outcome(measured(OURS, 2.0), measured(PEER, problem="gone")).as_table()
    assert json.loads(json.dumps(found)) == found
    assert found["systems"]["ours"]["median"] == 2.0
    assert found["systems"]["peer"] == {"problem": "gone"}


def test_a_section_replaces_its_own_and_leaves_the_rest() -> None:
    page = placed("# Benchmarks\n\nText.\n", "cpu rollouts", "first")
    page = placed(page, "cpu step", "other")
    page = placed(page, "cpu rollouts", r"second \1")
    assert page == (
        "# Benchmarks\n\nText.\n\n"
        "<!-- begin cpu rollouts -->\nsecond \\1\n<!-- end cpu rollouts -->\n\n"
        "<!-- begin cpu step -->\nother\n<!-- end cpu step -->\n"
    )
    assert placed(page, "cpu step", "other") == page


def test_figures_are_written_for_people() -> None:
    assert [seconds_text(s) for s in (0.0123, 1.0, 12.34)] == [
        "12.3 ms",
        "1 s",
        "12.3 s",
    ]
    assert [bytes_text(b) for b in (1_500_000, 2.5e9)] == ["1.5 MB", "2,500 MB"]
    assert one_line("a | b\n c") == "a / b c"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_bar_is_about_systems_of_its_case(case: Case) -> None:
    labels = {system.label for system in case.systems}
    assert {label for bar in case.bars for label in (bar.ours, bar.peer)} <= labels


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_labels_of_a_case_differ_and_precisions_are_known(case: Case) -> None:
    labels = [system.label for system in case.systems]
    assert len(set(labels)) == len(labels)
    assert {system.precision for system in case.systems} <= set(BYTES)


@pytest.mark.parametrize(
    "run", sorted({system.run for case in CASES for system in case.systems})
)
def test_every_system_that_a_case_names_is_there(run: str) -> None:
    pytest.importorskip("peft")
    assert callable(worker.find(f"benchmarks.speed.{run}"))
