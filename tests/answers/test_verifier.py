"""Verdicts on expressions: the same whatever else happens, or told to be none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from neuron_opsd.answers import verifier as verifier_module
from neuron_opsd.answers.latex import refusal
from neuron_opsd.answers.verifier import Limits, Verdict, Verifier, unsettled_text
from neuron_opsd.errors import TryAgainError

PAIRS = (
    (r"\sqrt{12}", r"2\sqrt{3}"),
    ("(y+1)^2", "y^2+2y+1"),
    (r"\frac{5\pi}{4}", r"\frac{7\pi}{4}"),
    (r"\{1,x,3\}", r"\{x,3,1\}"),
)
SLOW = r"\cos\frac{\pi}{17}\cos\frac{2\pi}{17}", r"\frac{1}{2}\sin\frac{\pi}{17}"
"""Takes several times `quick_seconds` on any machine."""

HOSTILE = (
    "9^{9^{9^{9}}}",
    "9^(9^(9^9))",
    "10^{9}!",
    "(10^9)!",
    "1000000000!",
    "{" * 900,
    "(" * 900,
    r"\frac{" * 150 + "1" + "}{2}" * 150,
    r"\sqrt{" * 150 + "2" + "}" * 150,
    "x^{100000000}-1",
    "(x+1)^{1000}",
    "(x+y+z+w)^{100}",
    "2^{100000000}",
    "10^{-10000000}",
    r"\binom{1000000}{500000}",
    r"\sum_{n=1}^{10000000} n",
    r"\prod_{n=1}^{100000} n",
    r"\int e^{x^{x^x}} dx",
    r"\int_0^1 \frac{\sin(x^3)}{\ln(x+2)} dx",
    r"\sin(\sin(\sin(\sin(\sin(x)))))",
    "1" * 999,
    "+".join(f"x_{{{n}}}" for n in range(150)),
    "+".join(rf"\sqrt{{{n}}}" for n in range(2, 80)),
    "\\{" + ",".join(map(str, range(250))) + ",x\\}",
    "a" + "^a" * 300,
    "x" * 900,
    "|" * 500,
    "1,2," * 200 + "x",
    r"\begin{pmatrix}1&1\\1&0\end{pmatrix}^{1000000}",
    r"\tan(\tan(\tan(10^{50})))",
    r"\sin(10^{100000})",
    r"(1+\sqrt{2})^{1000}",
    r"\Gamma(10^8)",
    r"\log_{2}{3^{100000000}}",
    r"e^{e^{e^{e^{e}}}}",
    r"\text{import os}; __import__('os').system('true')",
)


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier() as opened:
        yield opened


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep processes at work, as other jobs of a machine would."""
    loop = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(loop) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def verdict_of(verifier: Verifier, one: str, other: str) -> Verdict:
    with verifier.noting() as notes:
        verifier.equal(one, other)
    (verdict,) = notes.values()
    return verdict


def stopped_for(verifier: Verifier, seconds: float) -> threading.Thread:
    """Stop the process, as a loaded machine would, and let it go on later."""
    process: Any = vars(verifier)["_process"]
    os.killpg(process.pid, signal.SIGSTOP)

    def resume() -> None:
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGCONT)

    thread = threading.Thread(target=resume)
    thread.start()
    return thread


@contextmanager
def limited(verifier: Verifier, limits: Limits) -> Iterator[Verifier]:
    """Give a verifier that knows nothing, with other limits."""
    verifier.forget()
    before, verifier.limits = verifier.limits, limits
    try:
        yield verifier
    finally:
        verifier.limits = before
        verifier.forget()


def test_a_machine_that_gives_no_time_changes_no_verdict(verifier: Verifier) -> None:
    # Two seconds of wall clock once ended a comparison as not equal.
    verifier.equal("x+1", "1+x")
    with limited(verifier, Limits(quick_seconds=0.5, seconds=1)):
        thread = stopped_for(verifier, 2.1)
        start = time.monotonic()
        assert verifier.equal(*PAIRS[0])
        assert time.monotonic() - start > 2.0, "it was stopped"
        thread.join()


def test_verdicts_do_not_depend_on_what_was_asked_before(verifier: Verifier) -> None:
    forwards = {pair: verdict_of(verifier, *pair) for pair in PAIRS}
    with Verifier() as other:
        verdict_of(other, r"\sqrt{2}^{x}", r"2^{x/2}")
        backwards = {pair: verdict_of(other, *pair) for pair in reversed(PAIRS)}
    assert forwards == backwards
    assert [v.same for v in forwards.values()] == [True, True, False, True]


def test_what_is_not_quick_has_its_steps_counted(verifier: Verifier) -> None:
    with limited(verifier, Limits(quick_seconds=0.001, steps=20_000)):
        verdict = verdict_of(verifier, *SLOW)
    assert verdict.unsettled == "more than 20,000 steps of math-verify"
    with limited(verifier, Limits(quick_seconds=0.001)):
        one, other = sorted(PAIRS[0])
        assert verdict_of(verifier, *PAIRS[0]) == Verdict(one, other, same=True)


def test_the_clock_stops_what_takes_few_steps_for_long(verifier: Verifier) -> None:
    with limited(verifier, Limits(quick_seconds=0.1, seconds=1)):
        verdict = verdict_of(verifier, r"\Gamma(10^8)", "x+1")
    assert verdict.unsettled == "more than 1 s of processor time"


def test_memory_has_a_limit(verifier: Verifier) -> None:
    with limited(verifier, Limits(memory_bytes=40 << 20)):
        verdict = verdict_of(verifier, *SLOW)
    assert verdict.unsettled == "too much memory for 40 MiB"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1" * 1001 + "x", "longer than 1,000 characters"),
        ("{" * 61 + "}" * 61, "nested deeper than 60"),
        ("9^{9^{9^{9}}}", "a number of more than 20,000 digits"),
        ("9^(9^(9^9))", "a number of more than 20,000 digits"),
        ("10^{-10000000}", "a number of more than 20,000 digits"),
        (r"\log_2 3^{100000000}", "a number of more than 20,000 digits"),
        ("1000000!", "a number of more than 20,000 digits"),
        (r"\binom{1000000}{500000}", "a number of more than 20,000 digits"),
        (r"\binom{1000000}{2}", ""),
        ("(-1)^{10^{3}}", ""),
        ("2^{2^{2^{2}}}", ""),
        ("2^{1000}", ""),
        ("x^{100000000}", ""),
        ("100!", ""),
        ("{" * 60 + "}" * 60, ""),
        (r"\frac{1}{2}", ""),
        ("1^{10000000000}", ""),
        ("0^{10000000000}", ""),
    ],
)
def test_what_would_take_for_ever_is_known_by_its_form(text: str, reason: str) -> None:
    assert refusal(text) == reason


def test_what_is_refused_is_noted_and_starts_no_process() -> None:
    own = Verifier()
    verdict = verdict_of(own, r"\frac{1}{2}+" * 90_000, "x")
    assert (verdict.same, verdict.unsettled) == (False, "longer than 1,000 characters")
    assert own.equal("{" * 1_000_000, "{" * 1_000_000)
    assert vars(own)["_process"] is None


def test_notes_hold_what_was_known_already(verifier: Verifier) -> None:
    verifier.learn([Verdict("known a", "known b", same=True)])
    with verifier.noting() as notes:
        assert verifier.equal("known b", "known a")
        assert verifier.equal("12", "12.0")
    assert list(notes.values()) == [Verdict("known a", "known b", same=True)]
    verifier.forget()
    assert not verifier.equal("known b", "known a")


def test_a_process_that_is_killed_is_asked_once_more(verifier: Verifier) -> None:
    verifier.equal("x+1", "1+x")
    process: Any = vars(verifier)["_process"]
    process.kill()
    process.wait()
    assert verifier.equal("z+1", "1+z")


def test_a_signal_to_all_of_a_job_ends_no_comparison(verifier: Verifier) -> None:
    verifier.equal("x+1", "1+x")
    process: Any = vars(verifier)["_process"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        os.killpg(process.pid, number)
    assert verifier.equal("y+1", "1+y")
    assert vars(verifier)["_process"] is process


def test_a_process_that_is_killed_again_gives_no_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verifier_module, "STARTS", 0)
    with Verifier() as own, pytest.raises(TryAgainError, match="was killed 0 times on"):
        own.equal("x+1", "1+x")
    assert not vars(own)["_known"]


def test_a_machine_that_stands_still_gives_no_verdict(verifier: Verifier) -> None:
    verifier.equal("x+1", "1+x")
    process: Any = vars(verifier)["_process"]
    os.killpg(process.pid, signal.SIGSTOP)
    before, verifier.wait_seconds = verifier.wait_seconds, 0.3
    with pytest.raises(TryAgainError, match="did not reply within"):
        verifier.equal("u+1", "1+u")
    verifier.wait_seconds = before
    assert verifier.equal("u+1", "1+u"), "a new process says"


def test_ctrl_c_does_not_reach_the_process(verifier: Verifier) -> None:
    verifier.equal("x+1", "1+x")
    process: Any = vars(verifier)["_process"]
    assert os.getpgid(process.pid) != os.getpgid(0)


def test_the_time_of_all_comparisons_has_an_end(verifier: Verifier) -> None:
    verifier.forget()
    assert verifier.equal("v+1", "1+v", max_minutes=1)
    assert verifier.seconds > 0
    with pytest.raises(TryAgainError, match="max_minutes") as caught:
        verifier.equal("w+1", "1+w", max_minutes=verifier.seconds / 120)
    assert caught.value.exit_status == 75
    assert verifier.equal("v+1", "1+v", max_minutes=0), "what is known takes no time"


def test_a_sentence_tells_what_was_not_settled() -> None:
    verdicts = [
        Verdict("a", "b", same=True),
        Verdict("c" * 50, "d", same=False, unsettled="for one"),
        Verdict("e", "f", same=False, unsettled="for another"),
    ]
    assert unsettled_text(verdicts) == (
        "2 of 3 comparisons of expressions could not be settled (for one; for another) "
        f"and count as different, first {'c' * 39 + '…'!r} and 'd'"
    )
    assert not unsettled_text(verdicts[:1])


def hostile_verdicts(
    verifier: Verifier, limits: Limits, expressions: Sequence[str]
) -> list[Verdict]:
    with limited(verifier, limits):
        return [verdict_of(verifier, one, r"\frac{x}{x+1}") for one in expressions]


def test_some_hostile_expressions_end_alike_on_a_loaded_machine(
    verifier: Verifier,
) -> None:
    few = Limits(quick_seconds=0.05, steps=200_000, seconds=2)
    some = [*HOSTILE[:12], HOSTILE[17], *HOSTILE[-3:]]
    idle = hostile_verdicts(verifier, few, some)
    with busy(2):
        assert hostile_verdicts(verifier, few, some) == idle
    assert not any(verdict.same for verdict in idle)


@pytest.mark.long
def test_hostile_expressions_end_alike_on_a_loaded_machine(verifier: Verifier) -> None:
    idle = hostile_verdicts(verifier, Limits(), HOSTILE)
    with busy(2 * (os.cpu_count() or 1)):
        assert hostile_verdicts(verifier, Limits(), HOSTILE) == idle
    assert not any(verdict.same for verdict in idle)
