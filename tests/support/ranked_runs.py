"""Trainings in run directories by several processes that stop, fail and go on.

Called as a script with a folder and a model it leaves in the folder what came of each.
The parent has started no thread, so each rank is forked from it at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
import torch.distributed as dist

from killed_runs import fork, wait
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.methods.distillation import NeuronOPSD
from neuron_opsd.models.load import load_model
from neuron_opsd.processes.process_group import ProcessGroup
from neuron_opsd.processes.stopping import STOPPING, stoppable
from neuron_opsd.progress import Silent
from neuron_opsd.runs import ranked
from neuron_opsd.runs.adapters import Training
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.courses import HERE, Trainer
from neuron_opsd.runs.machines import ThisMachine
from neuron_opsd.runs.training import train_adapter
from neuron_opsd.stages.looking import guard_questions
from neuron_opsd.storage.run_directory import RunDirectory
from ranked_training import PATIENCE
from resolved import sampled_among_choices
from tiny_runs import SETTINGS, tiny_examples

STEPS: Final = 6
FAULT: Final = 3
"""The step in which something happens; the checkpoint before is after step 2."""
EXAMPLES: Final = tiny_examples(6)

Act: TypeAlias = Callable[[int], None]
"""Prepares what happens to the rank of that number."""


@dataclass(frozen=True)
class Shop:
    """Where trainings are, and how."""

    folder: Path
    config: Config

    def train(self, name: str, trainer: Trainer) -> None:
        """Train in a run directory, or go on with it."""
        progress = Silent()
        model = load_model(self.config.model)
        with (
            warnings.catch_warnings(),
            RunDirectory.open(self.folder / name, {}, {}, warn=progress.warn) as run,
        ):
            warnings.simplefilter("ignore", FutureWarning)
            context = RunContext(run, self.config, progress, ThisMachine(trainer))
            method = NeuronOPSD(self.config)
            pool = {one.question_id: one.question for one in EXAMPLES}
            guarded = guard_questions(pool, set(pool), self.config)
            main = Training("main")
            train_adapter(context, model, main, EXAMPLES, method, guarded)

    def part(self, name: str, rank: int, size: int) -> None:
        """Do what a rank does; leave how it ended."""
        meeting = f"file://{self.folder}/{name}.{size}.meeting"
        found: dict[str, Any] = {"kind": "", "error": "", "stopped": 0}
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
        try:
            with stoppable():
                STOPPING.has_begun = True
                self.take_part(name, ProcessGroup(PATIENCE))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            found |= {"kind": type(error).__name__, "error": str(error)}
        place = self.folder / f"{name}.{size}.rank-{rank}.json"
        place.write_text(json.dumps(found))

    def take_part(self, name: str, group: ProcessGroup) -> None:
        """Lead, or follow."""
        if group.rank > 0:
            ranked.follow(group)
            return
        leader = ranked.Leader(group)
        try:
            self.train(name, leader)
        finally:
            leader.dismiss()

    def together(self, name: str, size: int, act: Act = lambda _: None) -> list[int]:
        """Train with some ranks; return how each process ended."""

        def begin(rank: int) -> None:
            act(rank)
            if size == 1:
                self.train(name, HERE)
            else:
                self.part(name, rank, size)

        ranks = [fork(lambda rank=rank: begin(rank)) for rank in range(size)]  # type: ignore[misc]
        return [wait(child) for child in ranks]


def on(rank: int, act: Callable[[], object]) -> Act:
    """Have something happen on one rank when it makes the rollouts of a step."""

    def prepare(own: int) -> None:
        real = NeuronOPSD.roll_out

        def roll_out(self: Any, learner: Any, batch: Any) -> Any:
            if own == rank and batch.step == FAULT:
                act()
            return real(self, learner, batch)

        type.__setattr__(NeuronOPSD, "roll_out", roll_out)

    return prepare


def signal_self(number: int) -> Callable[[], object]:
    """Return what sends this process a signal."""
    return lambda: os.kill(os.getpid(), number)


def kill_leader(rank: int) -> None:
    """Have rank 0 be killed where it would begin to lead."""
    if rank == 0:
        ranked.Leader.course = lambda *_: signal_self(signal.SIGKILL)()  # type: ignore[method-assign,assignment]


def other_files(rank: int) -> None:
    """Have rank 1 find other files of the model."""
    if rank == 1:
        vars(ranked)["model_fingerprint"] = lambda config: f"others of {config.name}"


def other_versions(rank: int) -> None:
    """Have rank 1 find other software."""
    if rank == 1:
        vars(ranked)["installed_versions"] = lambda: {"torch": "1.0"}


def go_through(shop: Shop) -> dict[str, Any]:
    """Train in several ways; return how the processes ended, by name."""
    ends: dict[str, Any] = {"alone": shop.together("alone", 1)}
    ends["two"] = shop.together("two", 2)
    # A rank is lost; one process goes on.
    kill = on(1, signal_self(signal.SIGKILL))
    ends["killed"] = [shop.together("killed", 2, kill), shop.together("killed", 1)]
    # Rank 0 is lost before the others hear of a training.
    ends["led"] = shop.together("led", 2, kill_leader)
    # One of two is asked to stop; three go on.
    term = on(1, signal_self(signal.SIGTERM))
    stopped = shop.together("asked", 2, term)
    names = [p.name for p in (shop.folder / "asked/train/checkpoints").iterdir()]
    (shop.folder / "asked.stopped.json").write_text(json.dumps(sorted(names)))
    ends["asked"] = [stopped, shop.together("asked", 3)]
    ends["other files"] = shop.together("other-files", 2, other_files)
    ends["other versions"] = shop.together("other-versions", 2, other_versions)
    full = replace(shop, config=shop.config.changed(distill={"tuning": "full"}))
    ends["full"] = [full.together("full-alone", 1), full.together("full-two", 2)]
    wary = {"on_collapse": "stop", "max_divergence": 1e-9}
    guarded = replace(shop, config=shop.config.changed(guard=wary))
    ends["collapsed"] = guarded.together("collapsed", 2)
    return ends


def main(folder: Path, model: str) -> None:
    """Go through all, and leave how they ended."""
    more = [f"model.name={model}", "prompts.form=plain", f"distill.steps={STEPS}"]
    more += ["distill.learning_rate=0.001", "guard.every=2", "guard.num_questions=5"]
    config = sampled_among_choices(load_config(None, [*SETTINGS, *more]))
    ends = go_through(Shop(folder, config))
    (folder / "ends.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2])
