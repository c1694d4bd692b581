"""Compare our policy loss and its gradient with those of TRL's GRPO trainer.

    PYTHONPATH=src PEERS/bin/python -m benchmarks.policy_agreement

PEERS is an environment in which `trl` can be imported, beside the same torch as here:

    python -m venv PEERS && PEERS/bin/pip install torch==2.13.0 trl==1.16.0 peft

TRL's own `GRPOTrainer._compute_loss` runs on log-probabilities that both are given, in
float64: a trainer that holds its settings and no model stands in for the real one. Ours
is the whole of `policy_loss`: each log-probability is turned into two logits first.
`--record FILE` writes what TRL gave as JSON; the tests compare ours with that.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.method.policy import Limits, PolicyTokens, policy_loss
from neuron_opsd.method.rewards import advantages
from neuron_opsd.storage.files import write_atomic

LENGTHS: Final = (6, 5, 3, 1)
"""Tokens of each completion."""

REWARDS: Final = (
    (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
    (-0.71, -0.64, -0.7, -7.0),
    (0.25, 0.5),
    (1.0, 1.0, 1.0, 1.0),
)

TRL_DEVIATION: Final = "(std_rewards + 1e-4)"
"""What TRL divides by; looked for in its source before it is relied on."""

HEADER: Final = (
    "| case | tokens | clipped below | clipped above | loss off by | gradient off by |"
    "\n|---|--:|--:|--:|--:|--:|"
)


@dataclass(frozen=True, slots=True)
class Case:
    """Settings that both sides are given."""

    name: str
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_weight: float = 0.0
    old: bool = True
    """Whether log-probabilities from before the update are given."""

    @property
    def limits(self) -> Limits:
        """Return the settings as our loss takes them."""
        return Limits(self.clip_low, self.clip_high, self.kl_weight)


CASES: Final = (
    Case("first update, no KL", old=False),
    Case("first update, KL .04", kl_weight=0.04, old=False),
    Case("clip .2, no KL"),
    Case("clip .2 and .28, KL .04", clip_high=0.28, kl_weight=0.04),
)

Inputs: TypeAlias = Mapping[str, list[list[float]]]
"""Rows ``(B, T)`` of log-probabilities and mask, and advantages ``(B, 1)``."""

Found: TypeAlias = tuple[float, list[list[float]]]
"""The loss, and its gradient by the student's log-probabilities ``(B, T)``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--record", type=Path, help="where to write what TRL gave")
    args = parser.parse_args(argv)
    try:
        print(f"trl {version('trl')}, torch {version('torch')}; float64.\n\n{HEADER}")
    except PackageNotFoundError:
        print(f"{sys.executable} has no trl; make an environment as {__file__} says")
        return 2
    inputs = drawn_inputs()
    results = [(case, theirs(inputs, case)) for case in CASES]
    for case, found in results:
        print(table_row(inputs, case, found))
    paid = [their_advantages(rewards) for rewards in REWARDS]
    print("\n" + "\n".join(advantage_rows(paid)))
    if args.record:
        record = recorded(inputs, results, paid)
        write_atomic(args.record, (json.dumps(record) + "\n").encode())
    return 0


def drawn_inputs() -> Inputs:
    """Return log-probabilities, masks and advantages, the same at every call."""
    gen = torch.Generator().manual_seed(1)
    shape = (len(LENGTHS), max(LENGTHS))
    own = -torch.rand(shape, generator=gen, dtype=torch.float64) * 3 - 0.05
    # Far enough apart that the clip holds some tokens on both sides.
    old, reference = (
        (own + 0.4 * torch.randn(shape, generator=gen, dtype=torch.float64))
        for _ in range(2)
    )
    mask = [[float(t < n) for t in range(shape[1])] for n in LENGTHS]
    named = {"logprobs": own, "old_logprobs": old, "reference_logprobs": reference}
    rounded = {
        name: [[round(min(x, -0.01), 4) for x in row] for row in values.tolist()]
        for name, values in named.items()
    }
    gains = [[1.5], [-0.5], [0.25], [-1.25]]
    return rounded | {"mask": mask, "advantages": gains}


def theirs(inputs: Inputs, case: Case) -> Found:
    """Return what TRL's trainer makes of the inputs."""
    trainer = import_module("trl.trainer.grpo_trainer").GRPOTrainer
    given = {name: torch.tensor(x, dtype=torch.float64) for name, x in inputs.items()}
    own, mask = given["logprobs"].requires_grad_(), given["mask"]
    empty = torch.zeros((len(own), 0), dtype=torch.long)
    batch = {
        "prompt_ids": empty,
        "prompt_mask": empty,
        "completion_ids": torch.zeros_like(mask, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": given["advantages"].squeeze(1),
        "ref_per_token_logps": given["reference_logprobs"],
        "num_items_in_batch": mask.sum(),
    }
    if case.old:
        batch["old_per_token_logps"] = given["old_logprobs"]
    stand_in = trainer_without_model(case, own)
    loss: Tensor = trainer._compute_loss(stand_in, None, batch)  # noqa: SLF001
    (grad,) = torch.autograd.grad(loss, own)
    return loss.item(), grad.tolist()


def trainer_without_model(case: Case, logprobs: Tensor) -> Any:
    """Return what TRL's loss asks of a trainer, whose model gives `logprobs`.

    The loss is the mean over tokens, named `dapo`, which is also TRL's default.
    """
    return SimpleNamespace(
        loss_type="dapo",
        beta=case.kl_weight,
        epsilon_low=case.clip_low,
        epsilon_high=case.clip_high,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        args=SimpleNamespace(
            delta=None, use_bias_correction_kl=False, steps_per_generation=1
        ),
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(
            num_processes=1,
            gather=lambda x: x,
            reduce=lambda x, reduction: x,  # noqa: ARG005 - called by name
        ),
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (
            logprobs,
            torch.zeros_like(logprobs),
            None,
        ),
    )


def ours(inputs: Inputs, case: Case) -> Found:
    """Return what `policy_loss` makes of the same inputs."""
    given = {name: torch.tensor(x, dtype=torch.float64) for name, x in inputs.items()}
    kept = given["mask"].bool()
    own, old, reference = (
        given[name][kept] for name in ("logprobs", "old_logprobs", "reference_logprobs")
    )
    states = two_logits(own).requires_grad_()
    tokens = PolicyTokens(
        targets=torch.zeros(len(own), dtype=torch.long),
        advantages=given["advantages"].expand_as(kept)[kept],
        weights=torch.ones(len(own)),
        allowed=[()] * len(own),
        temperature=1.0,
        old_logprobs=old if case.old else None,
    )
    head = torch.eye(2, dtype=torch.float64)
    readouts = HiddenStates(states, head), HiddenStates(two_logits(reference), head)
    loss = policy_loss(*readouts, tokens, case.limits, chunk=4) / len(own)
    (grad,) = torch.autograd.grad(loss, states)
    by_logprob = torch.zeros_like(given["mask"])
    # The first logit moves log p by 1 - p.
    by_logprob[kept] = grad[:, 0] / -torch.expm1(own)
    return loss.item(), by_logprob.tolist()


def two_logits(logprobs: Tensor) -> Tensor:
    """Return logits ``(N, 2)`` of which the first has the log-probabilities given."""
    return torch.stack([logprobs, torch.log(-torch.expm1(logprobs))], dim=-1)


def their_advantages(rewards: Sequence[float]) -> list[float]:
    """Return TRL's advantages of one group.

    Raises:
        RuntimeError: If TRL's source no longer has the formula.
    """
    module = import_module("trl.trainer.grpo_trainer")
    source = inspect.getsource(module.GRPOTrainer)
    if f"advantages / {TRL_DEVIATION}" not in source:
        raise RuntimeError(
            f"trl {version('trl')} does not divide by {TRL_DEVIATION}; look at its "
            "source and change the formula here"
        )
    paid = torch.tensor([rewards], dtype=torch.float64)
    deviation: Tensor = module.nanstd(paid, dim=1)
    gains: list[float] = ((paid - paid.nanmean()) / (deviation + 1e-4))[0].tolist()
    return gains


def table_row(inputs: Inputs, case: Case, found: Found) -> str:
    """Return one line: what was clipped, and how far apart the two are."""
    loss, grad = ours(inputs, case)
    below, above = clipped(inputs, case)
    offs = (abs(loss - found[0]), largest_difference(grad, found[1]))
    cells = [case.name, str(sum(LENGTHS)), str(below), str(above)]
    return f"| {' | '.join([*cells, *(f'{off:.0e}' for off in offs)])} |"


def clipped(inputs: Inputs, case: Case) -> tuple[int, int]:
    """Return how many tokens the clip holds, of those paid below and above others."""
    if not case.old:
        return 0, 0
    below = above = 0
    rows = zip(*(inputs[k] for k in ("logprobs", "old_logprobs")), strict=True)
    for (own, old), (gain,), length in zip(
        rows, inputs["advantages"], LENGTHS, strict=True
    ):
        ratios = [
            math.exp(a - b) for a, b in zip(own[:length], old[:length], strict=True)
        ]
        below += sum(gain < 0 and r < 1 - case.clip_low for r in ratios)
        above += sum(gain > 0 and r > 1 + case.clip_high for r in ratios)
    return below, above


def largest_difference(
    left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]
) -> float:
    """Return how far apart two tables are where they are farthest."""
    return max(
        abs(a - b)
        for rows in zip(left, right, strict=True)
        for a, b in zip(*rows, strict=True)
    )


def advantage_rows(paid: Sequence[Sequence[float]]) -> Iterator[str]:
    """Yield the table of advantages, ours beside TRL's."""
    yield "| rewards of a group | largest advantage | TRL's differs by |"
    yield "|---|--:|--:|"
    for rewards, trl in zip(REWARDS, paid, strict=True):
        own = advantages(rewards)
        off = largest_difference([own], [trl])
        named = ", ".join(map(str, rewards))
        yield f"| {named} | {max(map(abs, own)):.4f} | {off:.0e} |"


def recorded(
    inputs: Inputs,
    results: Sequence[tuple[Case, Found]],
    paid: Sequence[Sequence[float]],
) -> dict[str, Any]:
    """Return all that the tests compare with, as JSON has it."""
    return {
        "trl": version("trl"),
        "torch": version("torch"),
        "inputs": inputs,
        "cases": [
            {"settings": asdict(case), "loss": loss, "gradient": gradient}
            for case, (loss, gradient) in results
        ],
        "advantages": [
            {"rewards": rewards, "found": found}
            for rewards, found in zip(REWARDS, paid, strict=True)
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
