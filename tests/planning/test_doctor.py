"""What the doctor finds, on machines that are made up and on this one."""

from __future__ import annotations

import builtins
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from neuron_opsd.planning import doctor
from neuron_opsd.processes import memory, processor

CPU = "processor : 0\nflags\t\t: fpu sse avx512_bf16 amx_bf16\n\nflags : other\n"
MEMORY = "MemTotal: 99 kB\nMemAvailable:   2097152 kB\n"


def test_this_machine_is_fit_but_for_what_is_not_fetched(tmp_path: Path) -> None:
    checks = doctor.diagnose(tmp_path / "cache", tmp_path / "runs")
    names = [check.name for check in checks]
    assert len(set(names)) == len(names)
    failed = [c for c in checks if c.state == "fail" and "disk" not in c.name]
    assert not [c for c in failed if c.name not in {"dependencies", "memory"}]
    assert all(check.advice for check in checks if check.state != "ok")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 10, 9), "fail"), ((3, 11, 0), "ok"), ((3, 14, 2), "ok"), ((4, 0, 0), "ok")],
)
def test_python_must_be_new_enough(version: tuple[int, ...], state: str) -> None:
    assert doctor.check_python(version).state == state


def versions(**found: str) -> Callable[[str], str | None]:
    return found.get


def test_dependencies_are_compared_with_their_ranges() -> None:
    required = ["rich>=14", "torch>=2.10", "odd>=1; extra == 'datasets'"]
    good = doctor.compare_versions(required, versions(rich="14.0", torch="2.13.0+cpu"))
    assert (good.state, good.value) == ("ok", "2 in the required ranges")
    bad = doctor.compare_versions(required, versions(rich="13.9"))
    assert bad.state == "fail"
    assert bad.value == (
        "rich>=14 needed, 13.9 installed; torch>=2.10 needed, none installed"
    )
    assert "pip install" in bad.advice


def test_a_tree_that_is_not_installed_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "DISTRIBUTION", "no-such-distribution")
    assert doctor.check_dependencies().state == "warn"
    assert doctor.installed_version("no-such-distribution") is None


def test_threads_beyond_the_cores_are_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "usable_cores", lambda: 0)
    check = doctor.check_torch()
    assert check.state == "warn"
    assert "OMP_NUM_THREADS" in check.advice
    monkeypatch.setattr(doctor, "usable_cores", lambda: 64)
    assert doctor.check_torch().state == "ok"


def test_a_torch_that_does_not_load_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def broken(name: str, *rest: Any) -> Any:
        if name == "torch":
            raise OSError("libtorch.so is missing")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(builtins, "__import__", broken)
    check = doctor.check_torch()
    assert (check.state, check.value) == (
        "fail",
        "cannot be imported: libtorch.so is missing",
    )
    assert doctor.check_cuda().state == "warn"


@pytest.mark.parametrize(
    ("build", "has_driver", "state", "word"),
    [
        (None, False, "ok", "no NVIDIA GPU"),
        ("13.0", False, "ok", "no NVIDIA GPU"),
        (None, True, "warn", "CPU-only build"),
        ("13.0", True, "warn", "CUDA 13.0 cannot"),
    ],
)
def test_an_unused_gpu_is_explained(
    build: str | None, has_driver: bool, state: str, word: str
) -> None:
    check = doctor.explain_no_cuda(build, has_driver=has_driver)
    assert check.state == state
    assert word in check.value


def test_a_gpu_that_works_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    facts = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", {0: facts}.get)
    monkeypatch.setattr(torch.cuda, "get_device_name", {0: "H100"}.get)
    assert doctor.check_cuda() == doctor.Check("cuda", "ok", "H100, 80 GiB")


def test_bfloat16_is_read_from_the_processors_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processor.processor_flags(CPU) == {"fpu", "sse", "avx512_bf16", "amx_bf16"}
    assert processor.processor_flags("Features : fp bf16\n") == {"fp", "bf16"}
    assert processor.processor_flags("") == frozenset()
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "CPU_INFO", file)
    assert "float32" in doctor.check_bf16().value
    file.write_text(CPU)
    assert doctor.check_bf16().value == "in hardware (amx_bf16, avx512_bf16)"


@pytest.mark.parametrize(
    ("limit", "used", "found"),
    [
        ("", "", "2.0 GiB free"),
        ("max\n", "5\n", "2.0 GiB free"),
        (f"{3 * 2**29}\n", f"{2**29}\n", "1.0 GiB free"),
        ("1000\n", "4000\n", "0.0 GiB free"),
    ],
)
def test_a_containers_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, used: str, found: str
) -> None:
    for name, text in (("info", MEMORY), ("memory.max", limit)):
        (tmp_path / name).write_text(text)
    (tmp_path / "memory.current").write_text(used)
    monkeypatch.setattr(memory, "AVAILABLE", tmp_path / "info")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    assert doctor.check_memory().value == found


def test_memory_may_be_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "AVAILABLE", tmp_path / "not there")
    found = doctor.check_memory()
    assert (found.state, found.value) == ("ok", "not known on this system")


@pytest.mark.parametrize(("gib", "state"), [(1.0, "fail"), (3.0, "warn"), (16.0, "ok")])
def test_memory_must_suffice(
    monkeypatch: pytest.MonkeyPatch, gib: float, state: str
) -> None:
    monkeypatch.setattr(memory, "line_bytes", lambda *_: int(gib * 2**30))
    monkeypatch.setattr(memory, "free_in_group", lambda: 2**50)
    assert doctor.check_memory().state == state


@pytest.mark.parametrize(("gib", "state"), [(0.2, "fail"), (1.0, "warn"), (9.0, "ok")])
def test_the_disk_must_have_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gib: float, state: str
) -> None:
    usage = SimpleNamespace(free=int(gib * 2**30))
    monkeypatch.setattr(shutil, "disk_usage", {tmp_path: usage}.get)
    assert doctor.check_disk("disk", tmp_path / "not" / "there").state == state


def test_a_folder_that_cannot_be_written_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.check_writing("writing", tmp_path / "new").state == "ok"

    def refuse(**options: Any) -> None:
        raise PermissionError(13, "Permission denied", options["dir"])

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    check = doctor.check_writing("writing", tmp_path)
    assert check.state == "fail"
    assert "Permission denied" in check.value


def test_locks_must_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_lock(tmp_path).state == "ok"
    monkeypatch.setattr(doctor, "lock_holds", lambda path: False)  # noqa: ARG005
    check = doctor.check_lock(tmp_path)
    assert check.state == "fail"
    assert "second lock was granted" in check.value

    def refuse(path: Path) -> bool:
        raise OSError(f"locks are not supported at {path.name}")

    monkeypatch.setattr(doctor, "lock_holds", refuse)
    assert "not supported at lock" in doctor.check_lock(tmp_path).value


def test_a_lock_is_tried_twice(tmp_path: Path) -> None:
    assert doctor.lock_holds(tmp_path / "lock")
    with FileLock(tmp_path / "other"):
        assert doctor.lock_holds(tmp_path / "lock")


def test_what_was_fetched_needs_no_network(tmp_path: Path) -> None:
    assert doctor.check_cache(tmp_path).state == "warn"
    (tmp_path / "sources.json").write_text("{}")
    assert doctor.check_cache(tmp_path).state == "ok"


def test_what_is_no_folder_takes_no_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = doctor.check_writing("writing runs", tmp_path / "file")
    assert (check.state, check.advice) == ("fail", "choose another place")
    assert check.value.endswith("it is a file, not a folder")


VLLM = {"version": "0.32.0", "precision": "bfloat16", "gap": 0.004, "from_base": 0.9}


@pytest.mark.parametrize(
    ("more", "state", "advice"),
    [
        ({}, "ok", ""),
        ({"gap": 0.06}, "warn", "set model.compute=float32"),
        ({"from_base": 0.004}, "warn", "its adapter changes nothing"),
    ],
)
def test_an_engine_is_judged_by_how_far_it_is_from_the_trainer(
    more: dict[str, float], state: str, advice: str
) -> None:
    check = doctor.judge_vllm(VLLM | more)
    assert check.state == state
    assert check.advice.startswith(advice)
    assert "nats a token from the trainer (bfloat16)" in check.value


@pytest.mark.parametrize(
    ("program", "state", "said"),
    [
        (f"print('noise'); print({json.dumps(VLLM)!r})", "ok", "0.32.0, 0.004 nats"),
        ("raise ImportError('undefined symbol')", "warn", "does not work: ImportError"),
        ("import os; os.abort()", "warn", "does not work: exit -6"),
        ("import time; time.sleep(60)", "warn", "gave no answer in 2 s"),
    ],
)
def test_an_engine_is_tried_in_a_process_of_its_own(
    program: str,
    state: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "trial_of_an_engine.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONFAULTHANDLER", "")
    monkeypatch.setattr(doctor, "find_spec", lambda _: True)
    monkeypatch.setattr(doctor, "VLLM_TRIAL", "trial_of_an_engine")
    monkeypatch.setattr(doctor, "VLLM_SECONDS", 2.0)
    check = doctor.check_vllm()
    assert check.state == state
    assert said in check.value


def test_an_engine_that_is_not_installed_is_no_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    assert doctor.check_vllm().state == "ok"
