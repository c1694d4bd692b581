"""Walk the tutorial's last section: from labelled rows to a served, judged model.

    python -m venv WALK
    WALK/bin/pip install . 'lm-eval[api]' xllamacpp
    WALK/bin/python benchmarks/journey.py --json journey.json

Writes the files and runs the commands that docs/tutorial.md shows, word for word, in a
new folder, and prints how long each took. A command that ends in `&` runs until the
last one is done. The first that fails ends the walk.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "tutorial.md"
HEADING: Final = "## 7. "
FILE: Final = re.compile(r"as `([^`]+)`.*?```\w+\n(.*?)```", re.DOTALL)
BLOCK: Final = re.compile(r"```console\n(.*?)```", re.DOTALL)
HEALTH: Final = "http://127.0.0.1:8080/health"
WAIT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Step:
    """One command and the seconds that it took."""

    command: str
    seconds: float


def section(page: str) -> str:
    """Return the text from the walk's heading to the next."""
    _, _, after = page.partition(f"\n{HEADING}")
    if not after:
        raise SystemExit(f"{PAGE} has no section {HEADING!r}")
    return after.partition("\n## ")[0]


def files(text: str) -> dict[str, str]:
    """Return the files that a section tells to save, by name."""
    return dict(FILE.findall(text))


def commands(text: str) -> list[str]:
    """Return the commands of a section, each with the lines that continue it."""
    found: list[str] = []
    continues = False
    for line in "".join(BLOCK.findall(text)).splitlines():
        if continues:
            found[-1] += f"\n{line}"
        elif line.startswith("$ "):
            found.append(line.removeprefix("$ "))
        else:
            continue
        continues = line.endswith("\\")
    return found


def walk(steps: list[str], folder: Path) -> Iterator[Step]:
    """Run commands in a folder, and yield each with its time."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in steps:
            began = time.perf_counter()
            if command.endswith("&"):
                running.append(start(command.rstrip("& "), folder))
                wait_for_server(running[-1])
            else:
                done = subprocess.run(
                    ["bash", "-c", command], cwd=folder, env=environment(), check=False
                )
                if done.returncode:
                    raise SystemExit(f"exit status {done.returncode}: {command}")
            yield Step(command, round(time.perf_counter() - began, 1))
    finally:
        for process in running:
            process.terminate()
            process.wait()


def start(command: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start a command that stays."""
    return subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=folder, env=environment()
    )


def environment() -> Mapping[str, str]:
    """Return the variables of a shell that finds this interpreter's commands."""
    here = str(Path(sys.executable).parent)
    return os.environ | {"PATH": f"{here}:{os.environ['PATH']}"}


def wait_for_server(process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    ends = time.monotonic() + WAIT_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(HEALTH, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"no server answered at {HEALTH}")


def main() -> None:
    """Walk, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the times")
    given = parser.parse_args()
    text = section(PAGE.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="journey-") as name:
        folder = Path(name)
        (folder / "serve_gguf.py").write_bytes(
            (ROOT / "examples" / "serve_gguf.py").read_bytes()
        )
        for file, content in files(text).items():
            (folder / file).write_text(content, encoding="utf-8")
        steps = list(walk(commands(text), folder))
    print("\n| seconds | command |\n|---|---|")
    for step in steps:
        line = step.command.replace("\\\n", "").replace("|", "\\|")
        print(f"| {step.seconds:.1f} | `{' '.join(line.split())}` |")
    print(f"\n{sum(step.seconds for step in steps) / 60:.1f} minutes in all")
    if given.json:
        given.json.write_text(json.dumps([asdict(step) for step in steps], indent=1))


if __name__ == "__main__":
    main()
