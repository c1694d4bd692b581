"""What `loss_op` measures, and the process that measures one of them.

The job comes as JSON on the command line. The first line on stdout tells of a warm-up;
for every line on stdin a repetition follows, and a line with its seconds.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeAlias

BETAS: Final = {"forward-kl": 0.0, "reverse-kl": 1.0, "jsd": 0.5}
"""TRL's name for each divergence."""

PRODUCT_ROWS = 512
"""Rows of one product where nothing but products is made."""

Repetition: TypeAlias = Callable[[], float]
"""Does the job once and returns the loss."""


@dataclass(frozen=True)
class Job:
    """What one process is told to do."""

    system: str
    divergence: str
    positions: int
    """N."""
    folder: str
    """Where the gradient is left."""
    width: int
    """D."""
    vocabulary: int
    """V."""
    threads: int
    chunk: int
    """Positions of a tile of ours; 0 for its default."""
    device: str


def work(job: Job) -> None:
    """Warm up, tell about it, and repeat the job for every line on stdin."""
    import torch

    torch.set_num_threads(job.threads)
    generator = torch.Generator().manual_seed(0)
    weight, states, teacher = (
        torch.randn(rows, job.width, generator=generator)
        for rows in (job.vocabulary, job.positions, job.positions)
    )
    # In place: what is made on the way would count as memory taken before.
    weight, teacher = weight.mul_(0.1), teacher.mul_(0.3).add_(states)
    weight, states, teacher = (x.to(job.device) for x in (weight, states, teacher))
    states.requires_grad_()
    repetition = MAKERS[job.system](job, (states, teacher, weight))
    before = peak_bytes(job.device)
    loss = repetition()
    peak = peak_bytes(job.device) - before
    if states.grad is not None:
        import numpy as np

        np.save(Path(job.folder) / f"{job.system}.npy", states.grad.cpu().numpy())
    print(json.dumps({"loss": loss, "peak": peak, "on": versions(job)}), flush=True)
    for _ in sys.stdin:
        states.grad = None
        start = time.perf_counter()
        repetition()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def versions(job: Job) -> list[tuple[str, str]]:
    """Return the processor and the packages that a worker runs."""
    import torch

    if job.device == "cuda":
        named = [("GPU", torch.cuda.get_device_name())]
    else:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [x.partition(":")[2].strip() for x in lines if "model name" in x]
        named = [("processor", (models or ["unknown"])[0])]
    named.append(("torch", version("torch")))
    return [*named, ("trl", version("trl"))] if job.system == "trl" else named


def peak_bytes(device: str) -> int:
    """Return the most memory that this process has taken so far."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ours(job: Job, inputs: Any) -> Repetition:
    """Return the package's own sum over tiles."""
    from neuron_opsd.config import DistillConfig
    from neuron_opsd.method import losses as module
    from neuron_opsd.method.fused_loss import HiddenStates

    states, teacher, weight = inputs
    chunk = {"chunk_positions": job.chunk} if job.chunk else {}
    config = DistillConfig.model_validate(
        {"divergence": job.divergence, "beta": BETAS["jsd"], **chunk}
    )

    def repetition() -> float:
        readouts = HiddenStates(states, weight), HiddenStates(teacher, weight)
        total = module.distillation_loss(*readouts, config)
        total.backward()
        return total.item()

    return repetition


def trl(job: Job, inputs: Any) -> Repetition:
    """Return TRL's `ChunkedDivergenceFunction`, with its own tiles."""
    states, teacher, weight = inputs
    function = import_module("trl.kernels.chunked_divergence").ChunkedDivergenceFunction
    rest = (teacher, weight, None, BETAS[job.divergence])

    def repetition() -> float:
        total = function.apply(states, weight, None, *rest)[0].sum()
        total.backward()
        return float(total.item())

    return repetition


def dense(job: Job, inputs: Any) -> Repetition:
    """Return the formula on all logits at once, differentiated by autograd."""
    import torch

    states, teacher, weight = inputs
    kl = torch.nn.functional.kl_div

    def repetition() -> float:
        log_p = (states @ weight.T).log_softmax(-1)
        log_q = (teacher @ weight.T).log_softmax(-1)
        if job.divergence == "forward-kl":
            total = kl(log_p, log_q, reduction="sum", log_target=True)
        elif job.divergence == "reverse-kl":
            total = kl(log_q, log_p, reduction="sum", log_target=True)
        else:
            log_m = torch.logaddexp(log_p, log_q) + torch.tensor(0.5).log()
            to_student = kl(log_m, log_p, reduction="sum", log_target=True)
            to_teacher = kl(log_m, log_q, reduction="sum", log_target=True)
            total = (to_student + to_teacher) / 2
        total.backward()
        return float(total.item())

    return repetition


def products(job: Job, inputs: Any) -> Repetition:
    """Return the three products alone: both logits, and back to the states."""
    import torch

    states, teacher, weight = inputs
    rows = min(PRODUCT_ROWS, len(states))
    tile = torch.empty(rows, len(weight), device=job.device)
    back = torch.empty(rows, job.width, device=job.device)

    @torch.no_grad()
    def repetition() -> float:
        for start in range(0, len(states), rows):
            count = len(states[start : start + rows])
            for source in (teacher, states):
                part = source[start : start + rows]
                torch.mm(part, weight.T, out=tile[:count])
            torch.mm(tile[:count], weight, out=back[:count])
        return float(back[0, 0])

    return repetition


MAKERS: Final[Mapping[str, Callable[[Job, Any], Repetition]]] = {
    "ours": ours,
    "trl": trl,
    "dense": dense,
    "products": products,
}


if __name__ == "__main__":
    work(Job(**json.loads(sys.argv[1])))
