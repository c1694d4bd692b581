"""A system in a process of its own, and what it is started with."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Timer

from benchmarks.speed.job import Facts, Job

ROOT = Path(__file__).resolve().parents[2]

COMMAND = ("-m", "benchmarks.speed.worker")

PATIENCE = 900.0
"""Seconds after which a process that does not answer is given up."""

ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}


class QuitError(Exception):
    """A process that ended early; the text is the last thing that it said."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and with what everything is measured."""

    python: Path
    """Of the peers' environment."""
    model: Path
    questions: Path
    device: str
    threads: int
    gguf: str
    neufs: str
    vllm: str = ""
    """Python of an environment with vLLM."""
    new_tokens: int = 32
    """Length of every completion that is drawn or looked at."""

    def environment(self) -> dict[str, str]:
        """Return the environment of every process, ours and the peers' alike."""
        threads = str(self.threads)
        paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        return {
            **os.environ,
            **ENVIRONMENT,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "PYTHONPATH": paths,
        }


class Process:
    """A system's process."""

    def __init__(self, run: str, job: Job, setting: Setting) -> None:
        self.log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [setting.python, *COMMAND, f"benchmarks.speed.{run}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=ROOT,
            env=setting.environment(),
        )
        try:
            self.ready = self._ask(json.dumps(asdict(job)))
        except QuitError:
            self.stop()
            raise

    def turn(self) -> Facts:
        """Do the work once.

        Raises:
            QuitError: If the process ends instead.
        """
        return self._ask("go")

    def stop(self) -> None:
        """Let the process end; one that does not within half a minute is killed."""
        timer = Timer(30.0, self.process.kill)
        timer.start()
        # Its stdin is closed first, which tells it that there is no more to do.
        self.process.communicate()
        timer.cancel()
        self.log.close()

    def _ask(self, line: str) -> Facts:
        assert self.process.stdin
        assert self.process.stdout
        timer = Timer(PATIENCE, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            timer.cancel()
        if not answer:
            raise QuitError(self._last_words())
        facts: Facts = json.loads(answer)
        return facts

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = [line.strip() for line in self.log if line.strip()]
        return lines[-1] if lines else "it ended without a word"
