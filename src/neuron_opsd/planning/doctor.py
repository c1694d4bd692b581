"""Check whether a machine can run this, and how to fix problems.

Each check returns a `Check` and changes nothing but temporary files, which it removes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

from filelock import FileLock, Timeout
from packaging.requirements import Requirement

from neuron_opsd.processes import memory
from neuron_opsd.processes.processor import listed_flags
from neuron_opsd.storage.download_cache import MARKER
from neuron_opsd.storage.lock import native_locks
from neuron_opsd.storage.manifest import NVIDIA_DRIVER
from neuron_opsd.storage.output_paths import kind_of

State: TypeAlias = Literal["ok", "warn", "fail"]

DISTRIBUTION = "neuron-opsd"
GIB = 2**30
OLDEST_PYTHON = (3, 11)
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})

VLLM_TRIAL = "neuron_opsd.models.vllm.trial"
"""Run as a program, since an incompatible library may kill its process."""
VLLM_SECONDS = 300.0
"""Longer than a slow machine needs."""
VLLM_ADVICE = (
    "it works with only one version of torch: reinstall both in one environment, or "
    "leave engine.rollouts at transformers"
)


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check."""

    name: str
    state: State
    value: str
    advice: str = ""
    """How to fix it; empty if nothing is wrong."""


def diagnose(cache: Path, out: Path) -> tuple[Check, ...]:
    """Run every check."""
    checks: list[Callable[[], Check]] = [
        lambda: check_python(sys.version_info[:3]),
        check_dependencies,
        check_torch,
        check_cuda,
        check_bf16,
        check_vllm,
        check_memory,
        lambda: check_disk("disk for runs", out),
        lambda: check_disk("disk for the cache", cache),
        lambda: check_writing("writing runs", out),
        lambda: check_writing("writing the cache", cache),
        lambda: check_lock(out),
        lambda: check_cache(cache),
    ]
    return tuple(check() for check in checks)


def check_python(version: tuple[int, ...]) -> Check:
    """Check that Python is new enough."""
    value = ".".join(map(str, version))
    if version[:2] >= OLDEST_PYTHON:
        return Check("python", "ok", value)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Check("python", "fail", value, f"install Python {oldest} or newer")


def check_dependencies() -> Check:
    """Check dependency versions against the required ranges."""
    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return Check(
            "dependencies",
            "warn",
            f"{DISTRIBUTION} is not installed as a package, so the ranges are unknown",
            "install it with pip, or run from the source tree",
        )
    return compare_versions(required, installed_version)


def compare_versions(
    required: Iterable[str], version_of: Callable[[str], str | None]
) -> Check:
    """Check installed versions against requirements."""
    needed: list[str] = []
    wrong: list[str] = []
    count = 0
    for line in required:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        found = version_of(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            needed.append(f"{requirement.name}{requirement.specifier}")
            wrong.append(f"{needed[-1]} needed, {found or 'none'} installed")
    if not wrong:
        return Check("dependencies", "ok", f"{count} in the required ranges")
    names = " ".join(f"'{name}'" for name in needed)
    advice = f"run: {Path(sys.executable).name} -m pip install {names}"
    return Check("dependencies", "fail", "; ".join(wrong), advice)


def installed_version(name: str) -> str | None:
    """Return an installed package's version."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_torch() -> Check:
    """Report the build of torch and its threads."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check(
            "torch", "fail", f"cannot be imported: {error}", "install torch again"
        )
    threads, cores = torch.get_num_threads(), usable_cores()
    value = f"{torch.__version__}, {threads} threads on {cores} cores"
    if threads > cores:
        advice = f"set OMP_NUM_THREADS={cores}; more threads than cores are slow"
        return Check("torch", "warn", value, advice)
    return Check("torch", "ok", value)


def usable_cores() -> int:
    """Count the processor cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_cuda() -> Check:
    """Check for a GPU that torch can use."""
    try:
        import torch
    except (ImportError, OSError):
        return Check("cuda", "warn", "unknown without torch", "install torch again")
    if torch.cuda.is_available():
        size = torch.cuda.get_device_properties(0).total_memory / GIB
        value = f"{torch.cuda.get_device_name(0)}, {size:.0f} GiB"
        return Check("cuda", "ok", value)
    return explain_no_cuda(torch.version.cuda, has_driver=NVIDIA_DRIVER.exists())


def explain_no_cuda(build: str | None, *, has_driver: bool) -> Check:
    """Say why no GPU is used."""
    if not has_driver:
        return Check("cuda", "ok", "no NVIDIA GPU; the processor is used")
    if build is None:
        return Check(
            "cuda",
            "warn",
            "an NVIDIA GPU, but torch is a CPU-only build",
            "install a CUDA build of torch",
        )
    return Check(
        "cuda",
        "warn",
        f"an NVIDIA GPU, but torch for CUDA {build} cannot use it",
        "update the driver, or install a torch built for the driver's CUDA",
    )


def check_bf16() -> Check:
    """Check whether the processor multiplies bfloat16 in hardware."""
    found = sorted(BF16_FLAGS & listed_flags())
    if found:
        return Check("bfloat16", "ok", f"in hardware ({', '.join(found)})")
    value = "not in the processor's hardware; float32 is used there"
    return Check("bfloat16", "ok", value)


def check_vllm() -> Check:
    """Check that vLLM is installed, works, and agrees with the trainer."""
    if find_spec("vllm") is None:
        return Check("vllm", "ok", "not installed; transformers writes answers")
    command = [sys.executable, "-W", "ignore", "-m", VLLM_TRIAL]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=VLLM_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        said = f"gave no answer in {VLLM_SECONDS:.0f} s"
        return Check("vllm", "warn", said, VLLM_ADVICE)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        return Check("vllm", "warn", f"does not work: {said}", VLLM_ADVICE)
    return judge_vllm(json.loads(done.stdout.splitlines()[-1]))


def judge_vllm(trial: Mapping[str, Any]) -> Check:
    """Judge a trial's distances from the adapted model and its base."""
    from neuron_opsd.stages.engine_gap import WARNED

    gap, from_base = trial["gap"], trial["from_base"]
    value = (
        f"{trial['version']}, {gap:.2g} nats a token from the trainer "
        f"({trial['precision']}), {from_base:.2g} without the adapter"
    )
    if gap > WARNED:
        advice = "set model.compute=float32, or leave engine.rollouts at transformers"
        return Check("vllm", "warn", value, advice)
    if from_base < 2 * gap:
        advice = "its adapter changes nothing; leave engine.rollouts at transformers"
        return Check("vllm", "warn", value, advice)
    return Check("vllm", "ok", value)


def check_memory() -> Check:
    """Check the memory available to this process."""
    if not memory.line_bytes(memory.AVAILABLE, "MemAvailable"):
        return Check("memory", "ok", "not known on this system")
    free = memory.free_memory("cpu")
    value = f"{free / GIB:.1f} GiB free"
    if free < 1.5 * GIB:
        return Check("memory", "fail", value, "close other programs; 4 GiB is better")
    if free < 4 * GIB:
        advice = "enough for small models; lower model.tokens_per_batch if it runs out"
        return Check("memory", "warn", value, advice)
    return Check("memory", "ok", value)


def check_disk(name: str, folder: Path) -> Check:
    """Check the free space of a present or future folder."""
    free = shutil.disk_usage(existing_parent(folder)).free
    value = f"{free / GIB:.1f} GiB free at {folder}"
    if free < GIB / 2:
        return Check(name, "fail", value, "make room, or choose another place")
    if free < 2 * GIB:
        return Check(name, "warn", value, "enough for the demo, but not for much more")
    return Check(name, "ok", value)


def check_writing(name: str, folder: Path) -> Check:
    """Check that files can be created in a present or future folder."""
    if os.path.lexists(folder) and not folder.is_dir():
        value = f"cannot write at {folder}: it is {kind_of(folder)}, not a folder"
        return Check(name, "fail", value, "choose another place")
    try:
        with tempfile.NamedTemporaryFile(dir=existing_parent(folder)):
            return Check(name, "ok", f"can write at {folder}")
    except OSError as error:
        value = f"cannot write at {folder}: {error.strerror}"
        return Check(
            name, "fail", value, "choose another place, or fix its permissions"
        )


def check_lock(folder: Path) -> Check:
    """Check that a folder's file system supports locks."""
    try:
        with tempfile.TemporaryDirectory(dir=existing_parent(folder)) as scratch:
            held = lock_holds(Path(scratch) / "lock")
    except (OSError, NotImplementedError, UserWarning) as error:
        held, reason = False, str(error)
    else:
        reason = "a second lock was granted while the first was held"
    if held:
        return Check("locks", "ok", f"hold at {folder}")
    return Check(
        "locks",
        "fail",
        f"do not hold at {folder}: {reason}",
        "write runs to a local disk; here two processes could write to one folder",
    )


def lock_holds(path: Path) -> bool:
    """Say whether a held lock refuses a second one."""
    with native_locks(), FileLock(path, timeout=0):
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True


def check_cache(cache: Path) -> Check:
    """Check whether the demo's files are cached for offline use."""
    name = "offline cache"
    if (cache / MARKER).is_file():
        return Check(name, "ok", f"the demo's files are at {cache}")
    value = f"nothing at {cache} yet"
    return Check(name, "warn", value, "run: neuron-opsd fetch demo (needs a network)")


def existing_parent(folder: Path) -> Path:
    """Return the folder or its nearest existing parent."""
    resolved = folder.absolute()
    return next(path for path in (resolved, *resolved.parents) if path.is_dir())
