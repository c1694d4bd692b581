"""The templates for batch systems and clouds, run with stand-ins for their commands.

The scripts themselves are run by bash: dry, and with commands that only note how they
were called.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

import places
from neuron_opsd.config.tables import load_config

CLUSTER = places.ROOT / "examples" / "cluster"
SCRIPTS = ("ray.sbatch", "torchrun.sbatch")
TASK = CLUSTER / "ray.sky.yaml"
OWN = ("run", "--pool", "a pool.jsonl", "--out", "runs/first")
JOB = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_GPUS_ON_NODE": "4",
    "SLURM_CPUS_PER_TASK": "16",
    "SLURMD_NODENAME": "gpu07",
}

NOTE = """#!/bin/bash
{ printf '%s' "${0##*/}"; printf ' %q' "$@"; printf '\\n'; } >> "$NOTES"
env | grep '^RAY_AUTH' | sort > "$NOTES.${0##*/}.env"
"""
WORKS = (
    NOTE
    + """stop() { sleep 0.5; echo stopped >> "$NOTES"; exit 138; }
trap stop USR1
for _ in {1..600}; do sleep 0.05; done
"""
)
"""A training of half a minute, which stops after its step when it is told to."""
ENDS = NOTE + "exit ${STATUS:-0}\n"
JOINED = (
    NOTE + 'until [ "$(grep -c ^srun "$NOTES")" = "$STEPS" ]; do sleep 0.05; done\n'
)
"""A program that ends once Ray was started everywhere."""
STAYS = NOTE + "exec sleep 30\n"
"""A step that Ray runs in: it never ends by itself."""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file in which stand-ins note how they were called."""
    for name in [one for one in os.environ if one.startswith(("SLURM", "RAY", "SKY"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "notes"


def stand_in(folder: Path, **commands: str) -> None:
    """Put commands of these texts where they are found first."""
    for name, text in commands.items():
        path = folder / name.replace("_", "-")
        path.write_text(text)
        path.chmod(0o755)


def begin(script: str, **more: str) -> subprocess.Popen[str]:
    """Start a script as Slurm does."""
    return subprocess.Popen(
        ["bash", str(CLUSTER / script), *OWN],
        env=os.environ | JOB | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a script, far sooner than its stand-ins would end."""
    return process.communicate(timeout=20)[0]


def noted(notes: Path) -> list[list[str]]:
    """Return the commands that were called."""
    return [shlex.split(line) for line in notes.read_text().splitlines()]


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def printed(text: str) -> list[list[str]]:
    """Return the commands that a script said it starts."""
    assert all(line.startswith("+ ") for line in text.splitlines()), text
    return [shlex.split(line[2:]) for line in text.splitlines()]


def value_of(command: Sequence[str], name: str) -> str:
    """Return the value of `--name=value`."""
    (found,) = [word for word in command if word.startswith(f"{name}=")]
    return found.partition("=")[2]


def test_a_dry_run_outside_slurm_starts_nothing(notes: Path) -> None:
    """It needs neither Slurm nor a GPU, and prints what 8 GPUs a machine would do."""
    texts = {
        script: subprocess.run(
            ["bash", str(CLUSTER / script), *OWN],
            env=os.environ | {"DRY_RUN": "1", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for script in SCRIPTS
    }
    head, others, own = printed(texts["ray.sbatch"])
    assert own[: 1 + len(OWN)] == ["neuron-opsd", *OWN]
    assert own[-1] == "cluster.workers=16"
    assert "--head" in head
    assert value_of(others, "--address") == own[own.index("--ray") + 1]
    (torchrun,) = printed(texts["torchrun.sbatch"])
    assert value_of(torchrun, "--nproc-per-node") == "8"
    assert not notes.exists()


def test_ray_is_started_on_every_machine_of_the_job(notes: Path) -> None:
    """One step for the first machine and one for all others, which know its address."""
    stand_in(notes.parent, srun=STAYS, neuron_opsd=JOINED, scontrol=ENDS)
    process = begin("ray.sbatch", STEPS="2")
    text = finish(process)
    assert process.returncode == 0
    first, rest, own = printed(text)
    assert "--head" in first
    assert value_of(first, "--nodelist") == value_of(rest, "--exclude") == "gpu07"
    assert value_of(first, "--nodes") == "1"
    assert value_of(rest, "--nodes") == value_of(rest, "--ntasks") == "2"
    for step in (first, rest):
        assert step[step.index("ray") + 1] == "start"
        assert value_of(step, "--num-gpus") == value_of(step, "--gpus-per-node") == "4"
        assert value_of(step, "--num-cpus") == "16"
        assert "--block" in step  # Slurm kills what a step leaves behind
        assert "--disable-usage-stats" in step
    assert own[own.index("--ray") + 1] == value_of(rest, "--address") == "gpu07:6379"
    assert own[-1] == "cluster.workers=12"


def test_one_machine_needs_no_others(notes: Path) -> None:
    """A job of one node has no second step."""
    stand_in(notes.parent, srun=STAYS, neuron_opsd=JOINED, scontrol=ENDS)
    text = finish(begin("ray.sbatch", SLURM_JOB_NUM_NODES="1", STEPS="1"))
    assert [call[0] for call in printed(text)] == ["srun", "neuron-opsd"]


def test_all_machines_share_a_key_that_nobody_is_shown(notes: Path) -> None:
    """Ray lets in who knows it; it is new for every job and in no output."""
    stand_in(notes.parent, srun=STAYS, neuron_opsd=WORKS, scontrol=ENDS)
    files = [notes.with_name(f"notes.{name}.env") for name in ("srun", "neuron-opsd")]
    found = []
    for _ in range(2):
        process = begin("ray.sbatch")
        wait_until(lambda: all(f.is_file() and f.stat().st_size for f in files))
        process.send_signal(signal.SIGUSR1)
        text = finish(process)
        first, second = (file.read_text() for file in files)
        for file in files:
            file.unlink()
        assert first == second
        (key,) = re.findall("RAY_AUTH_TOKEN=([0-9a-f]{64})\n", first)
        assert "RAY_AUTH_MODE=token\n" in first
        assert key not in text
        found.append(key)
    assert found[0] != found[1]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_signal_before_the_end_stops_the_program_and_queues_again(
    script: str, notes: Path
) -> None:
    """Slurm tells the script alone; what it started stops as it would by itself."""
    stand_in(notes.parent, srun=STAYS, neuron_opsd=WORKS, torchrun=WORKS, scontrol=NOTE)
    process = begin(script)
    own = "neuron-opsd" if script == "ray.sbatch" else "torchrun"
    wait_until(lambda: notes.exists() and own in notes.read_text())
    time.sleep(0.3)  # until the stand-in hears signals
    process.send_signal(signal.SIGUSR1)
    finish(process)
    assert process.returncode == 138
    assert noted(notes)[-2:] == [["stopped"], ["scontrol", "requeue", "17"]]


@pytest.mark.parametrize(
    ("status", "again"), [("0", False), ("2", False), ("75", True), ("143", True)]
)
def test_only_what_can_be_tried_again_is_queued_again(
    status: str, again: bool, notes: Path
) -> None:
    """A wrong setting would come back for ever."""
    stand_in(notes.parent, srun=STAYS, neuron_opsd=ENDS, scontrol=NOTE)
    process = begin("ray.sbatch", STATUS=status)
    finish(process)
    assert process.returncode == int(status)
    assert (["scontrol", "requeue", "17"] in noted(notes)) == again


def test_torchrun_starts_the_same_command_on_every_gpu(notes: Path) -> None:
    """Its processes are told of the signal, and get longer than half a minute."""
    stand_in(notes.parent, torchrun=ENDS, scontrol=ENDS)
    (call,) = printed(finish(begin("torchrun.sbatch")))
    assert value_of(call, "--nproc-per-node") == "4"
    assert "SIGUSR1" in value_of(call, "--signals-to-handle").split(",")
    told = re.search(
        r"--signal=B:USR1@(\d+)", (CLUSTER / "torchrun.sbatch").read_text()
    )
    assert told
    assert 600 < int(value_of(call, "--shutdown-timeout")) < int(told[1])
    assert call[-len(OWN) - 2 :] == ["--no-python", "neuron-opsd", *OWN]


@pytest.mark.newest
def test_torchrun_knows_the_flags() -> None:
    """The installed torch takes every flag of the template."""
    said = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = (CLUSTER / "torchrun.sbatch").read_text().splitlines()
    flags = re.findall(
        r"(--[a-z-]+)", " ".join(line for line in lines if not line.startswith("#"))
    )
    assert {"--standalone", "--nproc-per-node", "--no-python"} <= set(flags)
    assert [flag for flag in flags if flag not in said] == []


def test_a_task_of_skypilot_can_be_tried_dry(notes: Path) -> None:
    """Every machine joins, and the first alone starts the command."""
    done = subprocess.run(
        [sys.executable, str(CLUSTER / "dry_run.py"), str(TASK)],
        capture_output=True,
        text=True,
        check=True,
    )
    _, *machines = re.split(r"# on machine \d\n", done.stdout)
    calls = [
        [shlex.split(line[2:]) for line in machine.splitlines()] for machine in machines
    ]
    joining = [[str(Path("~/sky_templates/ray/start_cluster").expanduser())]]
    assert [call[:1] for call in calls] == [joining, joining]
    assert calls[1][1:] == []
    ((program, *words),) = calls[0][1:]
    assert program == "neuron-opsd"
    assert words[0] == "run"
    assert words[-4:] == ["--ray", "127.0.0.1:6379", "--set", "cluster.workers=16"]
    assert not notes.exists()


def test_a_task_of_skypilot_is_what_it_takes() -> None:
    """Its fields are those of SkyPilot's schema, and what must be text is."""
    task = yaml.safe_load(TASK.read_text())
    assert set(task) == {
        *("name", "num_nodes", "resources", "envs", "workdir", "file_mounts"),
        *("setup", "run"),
    }
    assert all(isinstance(value, str) for value in task["envs"].values())
    for part in ("setup", "run"):
        subprocess.run(["bash", "-n", "-c", task[part]], check=True)
    # What the files of a run need: renames, which MOUNT has not.
    (mounted,) = task["file_mounts"].values()
    assert mounted["mode"] == "MOUNT_CACHED"
    assert "/runs/" in task["envs"]["ARGUMENTS"]


@pytest.mark.parametrize("name", ["ray.sbatch", "ray.sky.yaml"])
def test_the_settings_that_are_added_exist(name: str) -> None:
    """A setting of another name would end every job at once."""
    (added,) = set(re.findall(r"--set ([a-z.]+)=", (CLUSTER / name).read_text()))
    assert load_config(None, [f"{added}=16"]).cluster.workers == 16
