"""What a training step of ours holds, beside what `planning.memory` computes."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.live_bytes import peak_bytes
from benchmarks.speed.job import Facts, Job, Turns
from benchmarks.speed.rollouts import model_settings
from neuron_opsd.config import DistillConfig
from neuron_opsd.method.losses import distillation_loss
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.models.outline import outline_of
from neuron_opsd.planning import memory
from neuron_opsd.planning.memory import FLOAT, HALF, Passes, Way
from neuron_opsd.records import Pair

RANK = 16


def ours(job: Job, turns: Turns) -> None:
    """Serve a step on one random completion; tell what it held and was to hold."""
    options = job.options
    tuning = DistillConfig(
        lora_rank=RANK, gradient_checkpointing=options["checkpointing"]
    )
    model = load_model(model_settings(job))
    outline = outline_of(job.model, model.network)
    learner = learner_of(model, tuning, 0)
    half = model.facts.compute == "bfloat16"
    way = Way(
        checkpointing=options["checkpointing"] == "on",
        rank=RANK,
        product=HALF if half else FLOAT,
    )
    passes = Passes(**options["passes"])
    computed = memory.peak(outline, way, passes)

    def step() -> None:
        take_step(learner, tuning, passes)

    def measured() -> Facts:
        before = held_bytes(job.device)
        peak = most_bytes(job.device, step)
        return {
            "amount": 1,
            "held": held_bytes(job.device),
            "most": peak if job.device.startswith("cuda") else before + peak,
            "computed_held": computed.static.kept,
            "computed_most": computed.total,
        }

    step()  # makes what stays from one step to the next
    turns.repeat(measured)


def take_step(learner: HFLearner, tuning: DistillConfig, passes: Passes) -> None:
    """Take one optimiser step as training does, the teacher's pass first."""
    vocabulary, count = learner.facts.vocab_size, passes.completion
    teacher = learner.teacher([random_pair(passes.teacher - count, count, vocabulary)])
    student = learner.student([random_pair(passes.student - count, count, vocabulary)])
    loss = distillation_loss(student, teacher, tuning) / count
    loss.backward()
    learner.step(0.0)
    learner.update_teacher(tuning.ema_rate)


def random_pair(before: int, after: int, vocabulary: int) -> Pair:
    """Return a prompt and a completion of random tokens."""
    gen = torch.Generator().manual_seed(before)
    ids = torch.randint(vocabulary, (before + after,), generator=gen).tolist()
    return tuple(ids[:before]), tuple(ids[before:])


def held_bytes(device: str) -> int:
    """Return the bytes of all tensors that live now."""
    gc.collect()
    if device.startswith("cuda"):
        return int(torch.cuda.memory_allocated())
    found: dict[int, int] = {}
    for thing in gc.get_objects():
        # Its type is asked, since some libraries' objects warn when looked at.
        if issubclass(type(thing), Tensor) and not thing.is_meta:
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def most_bytes(device: str, work: Callable[[], None]) -> int:
    """Return the most that lives while work is done; on a processor what it makes."""
    if not device.startswith("cuda"):
        return peak_bytes(work)
    torch.cuda.reset_peak_memory_stats()
    work()
    return int(torch.cuda.max_memory_allocated())
