"""Print what a SkyPilot task would start on each of its machines, and start nothing.

    python examples/cluster/dry_run.py examples/cluster/ray.sky.yaml

The task's own `run` section is executed with DRY_RUN=1, under which it prints its
commands, and with the variables that SkyPilot would set.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml


def main() -> None:
    """Print the commands of the file that was named."""
    task = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print("# on each machine, once\n" + task["setup"])
    for rank in range(task.get("num_nodes", 1)):
        print(f"# on machine {rank}")
        sys.stdout.flush()
        subprocess.run(
            ["bash", "-c", task["run"]], env=variables(task, rank), check=True
        )


def variables(task: dict[str, Any], rank: int) -> dict[str, str]:
    """Return the environment of one machine, as SkyPilot would have it."""
    num_nodes = task.get("num_nodes", 1)
    _, _, gpus = str(task["resources"].get("accelerators", "")).partition(":")
    given = {name: str(value) for name, value in task.get("envs", {}).items()}
    return (
        os.environ
        | given
        | {
            "DRY_RUN": "1",
            "SKYPILOT_NODE_RANK": str(rank),
            "SKYPILOT_NUM_NODES": str(num_nodes),
            "SKYPILOT_NUM_GPUS_PER_NODE": gpus or "1",
            "SKYPILOT_NODE_IPS": "\n".join(f"10.0.0.{1 + n}" for n in range(num_nodes)),
        }
    )


if __name__ == "__main__":
    main()
