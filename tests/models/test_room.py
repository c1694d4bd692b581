"""Where memory runs out: half as much at once, the same results, one clear line."""

from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from loaded import loaded, random_pairs
from neuron_opsd.config import Config, NeuronsConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import TryAgainError
from neuron_opsd.methods.distillation import NeuronOPSD
from neuron_opsd.models.decoding.growing import Request
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.load import load_model
from neuron_opsd.models.roles import Learner, Sampling
from neuron_opsd.models.room import Room, attempt, in_halves
from neuron_opsd.progress import Silent
from neuron_opsd.records import Completion, StepMetrics
from neuron_opsd.runs.adapters import Training
from neuron_opsd.runs.context import ROOM, SPLITS, RunContext, keep_room
from neuron_opsd.runs.training import train_adapter
from neuron_opsd.stages.capture import capture_neurons
from neuron_opsd.stages.policy_gradient import Rewards, certainties
from neuron_opsd.stages.splitting import Split, Splits
from neuron_opsd.stages.training import (
    Earlier,
    Objective,
    RolloutGroup,
    TrainingSequence,
    train,
)
from neuron_opsd.stages.training_rollouts import VotedGroup
from neuron_opsd.storage.run_directory import RunDirectory
from objectives import Rewarding, TwoFunctions
from resolved import sampled_among_choices
from tiny import tiny_model
from tiny_runs import SETTINGS, files_of, tiny_examples

ON_A_PROCESSOR = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
    "memory: you tried to allocate 4000 bytes. Error code 12 (Cannot allocate memory)"
)
ON_A_GPU = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 3 GiB."

SHORTAGES: dict[str, Callable[[], BaseException]] = {
    "processor": lambda: RuntimeError(ON_A_PROCESSOR),
    "gpu": lambda: torch.OutOfMemoryError(ON_A_GPU),
    "mps": lambda: RuntimeError("MPS backend out of memory (allocated: 1 GB)"),
    "numpy": lambda: MemoryError("Unable to allocate 3 MiB"),
}

EXAMPLES = tuple(
    replace(e, question=replace(e.question, choices=e.choices))
    for e in tiny_examples(4)
)

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkp:FutureWarning")


class Shortage:
    """Runs out of memory at some calls, or whenever too many rows are multiplied."""

    def __init__(self, kind: str = "processor") -> None:
        self.kind = kind
        self.calls = 0
        self.at: set[int] = set()
        self.most_rows: int | None = None

    def look(self, inputs: Tensor) -> None:
        """Count a product, and fail where it is its turn."""
        self.calls += 1
        rows = len(inputs) if inputs.dim() > 2 else 1
        many = self.most_rows is not None and rows > self.most_rows
        if many or self.calls in self.at:
            raise SHORTAGES[self.kind]()


@pytest.fixture(autouse=True)
def _no_search_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes long beside so many tests' objects, and changes nothing."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


@pytest.fixture
def shortage(monkeypatch: pytest.MonkeyPatch) -> Shortage:
    """Give what decides at which product memory runs out."""
    found = Shortage()
    real = nn.functional.linear

    def linear(inputs: Tensor, *args: Any, **options: Any) -> Tensor:
        found.look(inputs)
        return real(inputs, *args, **options)

    monkeypatch.setattr(nn.functional, "linear", linear)
    return found


# --- what is recognised ---


@pytest.mark.parametrize("kind", SHORTAGES)
def test_a_shortage_is_recognised_whatever_says_it(kind: str) -> None:
    def work() -> None:
        raise SHORTAGES[kind]()

    said = attempt(work)
    assert said == {
        "processor": "4000 bytes more were asked for",
        "gpu": "2.00 GiB more were asked for",
    }.get(kind, "how much is not said")


def test_other_errors_pass() -> None:
    def work() -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        attempt(work)


def test_halves_keep_the_order_and_end_at_one() -> None:
    def work(items: Sequence[int]) -> list[int]:
        if len(items) > most:
            raise MemoryError
        return [10 * item for item in items]

    most = 8
    for most in (8, 4, 3, 2, 1):  # noqa: B007 - `work` reads it
        assert in_halves(range(8), work, "x") == list(range(0, 80, 10))
    most = 0
    with pytest.raises(TryAgainError, match="memory ran out on one item alone"):
        in_halves(range(8), work, "one item")


# --- answers, choices, neurons ---


def completions_of(model: HFModel, sampling: Sampling) -> list[Any]:
    """Return the tokens of some completions; more is not promised to the last bit."""
    pairs = random_pairs([(9, 0), (3, 0), (5, 0), (7, 0), (12, 0)], 300)
    seeds = [[1, 2, 3], [4, 5], [6, 7, 8], [], [9]]
    found = model.sample([prompt for prompt, _ in pairs], seeds, sampling)
    return [[completion.token_ids for completion in group] for group in found]


@pytest.mark.parametrize("shares", [True, False], ids=["shared", "plain"])
def test_answers_are_the_same_wherever_memory_runs_out(
    tiny_llama: Path, shortage: Shortage, shares: bool
) -> None:
    model = loaded(tiny_llama)
    model.facts = replace(model.facts, shares_prompts=shares)
    sampling = Sampling(1.0, max_new_tokens=4)
    shortage.calls = 0
    wanted = completions_of(model, sampling)
    whole = shortage.calls
    for at in range(1, whole + 1, whole // 4):
        model.room = Room(4096)
        shortage.calls, shortage.at = 0, {at}
        assert completions_of(model, sampling) == wanted, at
        assert model.room.rows == 4
        assert model.room.tokens == 4096
    model.room = Room(4096)
    shortage.calls, shortage.at = 0, {20, 60, 100}
    assert completions_of(model, sampling) == wanted
    assert model.room.rows == 1


def test_what_is_written_is_not_lost_where_memory_runs_out(
    tiny_llama: Path, shortage: Shortage
) -> None:
    model = loaded(tiny_llama)
    prompts = [prompt for prompt, _ in random_pairs([(9, 0)] * 6, 300)]
    sampling = Sampling(1.0, max_new_tokens=8)
    model.room.rows = 2
    begun: list[int] = []
    begin = Request.begin

    def note(request: Request, prompt: int, numbers: Sequence[int]) -> Any:
        begun.append(prompt)
        return begin(request, prompt, numbers)

    shortage.calls = 0
    wanted = model.sample(prompts, [[n] for n in range(6)], sampling)
    shortage.calls, shortage.at = 0, {shortage.calls * 3 // 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Request, "begin", note)
        found = model.sample(prompts, [[n] for n in range(6)], sampling)
    assert found == wanted
    assert 6 < len(begun) <= 6 + 2


@pytest.mark.parametrize("shares", [True, False], ids=["shared", "plain"])
def test_a_prompts_own_samples_are_halved_last(
    tiny_llama: Path, shortage: Shortage, shares: bool
) -> None:
    model = loaded(tiny_llama)
    model.facts = replace(model.facts, shares_prompts=shares)
    sampling = Sampling(1.0, max_new_tokens=4)
    wanted = completions_of(model, sampling)
    # Of the shared way, products are padded to eight rows of one sample or more.
    shortage.most_rows = 8 if shares else 1
    assert completions_of(model, sampling) == wanted
    shortage.most_rows = 0
    with pytest.raises(TryAgainError) as caught:
        completions_of(model, sampling)
    assert "memory ran out on one completion of up to 16 tokens alone" in str(
        caught.value
    )
    assert "4000 bytes" in str(caught.value)
    assert caught.value.exit_status == 75


def test_logits_and_neurons_are_the_same_in_smaller_passes(
    tiny_llama: Path, shortage: Shortage
) -> None:
    model = loaded(tiny_llama)
    pairs = random_pairs([(9, 2), (3, 3), (5, 1), (7, 2), (12, 4)], 300)
    names = [f"q{n}" for n in range(len(pairs))]
    columns = [[(5, 6)] * (len(pair[1]) + 1) for pair in pairs]

    def found() -> tuple[Any, Any]:
        logits = model.logits_at(pairs, columns)
        sets = capture_neurons(model, names, pairs, NeuronsConfig(), 4096)
        rows = [value for row in logits for value in row]
        return rows, [(s.neuron_count, s.neuron_ids, s.scores) for s in sets]

    wanted, whole = found()
    told: list[str] = []
    model.room.told = told.append
    for most_rows in (4, 3, 1):
        model.room.tokens = 4096
        shortage.most_rows = most_rows
        rows, sets = found()
        assert all(map(np.array_equal, rows, wanted))
        for one, other in zip(sets, whole, strict=True):
            assert all(map(np.allclose, one, other))
    assert told
    shortage.most_rows = 0
    with pytest.raises(TryAgainError, match="a row of 6 tokens alone"):
        found()


# --- training ---


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("plain"), "llama", chat=False)


@pytest.fixture
def config(model_folder: Path) -> Config:
    more = [f"model.name={model_folder}", "prompts.form=plain", "distill.steps=3"]
    more += ["distill.num_samples=2", "distill.micro_batch_size=4"]
    more += ["distill.checkpoint_every=1", "distill.batch_size=4"]
    return load_config(None, [*SETTINGS, *more])


def rewarding(config: Config) -> Objective:
    """Reward certainty, which takes passes of its own."""

    def reward(learner: Learner, groups: Sequence[VotedGroup]) -> Rewards:
        found = certainties(learner, groups, config.distill)
        return [[sure for sure, _ in rows] for rows in found]

    return Rewarding(config, reward, 0.1)


OBJECTIVES: dict[str, Callable[[Config], Objective]] = {
    "distillation": NeuronOPSD,
    "reinforcement": rewarding,
}


@contextmanager
def opened(folder: Path, config: Config) -> Iterator[RunContext]:
    progress = Silent()
    with RunDirectory.open(folder, {}, {}, warn=progress.warn) as run:
        yield RunContext(run, sampled_among_choices(config), progress)


def trained(
    folder: Path, config: Config, objective: Objective | None = None
) -> tuple[tuple[StepMetrics, ...], dict[str, Any], list[str]]:
    """Train; return metrics, facts and warnings."""
    with opened(folder, config) as run:
        base = load_model(config.model)
        objective = objective or NeuronOPSD(config)
        found = train_adapter(run, base, Training("main"), EXAMPLES, objective)
        return found, run.directory.manifest.facts, run.directory.warnings


def calls_of_a_step(
    folder: Path, config: Config, shortage: Shortage, objective: Objective
) -> list[int]:
    """Return how many products were started when each step began, and at the end."""
    begun: list[int] = []

    def roll_out(learner: Any, batch: Any) -> Any:
        begun.append(shortage.calls)
        return objective.roll_out(learner, batch)

    shortage.calls = 0
    trained(folder, config, TwoFunctions(roll_out, objective.loss))
    return [*begun, shortage.calls]


def adapter_with(
    folder: Path, config: Config, objective: Objective, **split: int
) -> dict[str, bytes]:
    """Return the adapter of a training that has known its split from step 1 on."""
    with opened(folder, config) as run:
        first = Split(0, config.distill.micro_batch_size, 4096)
        then = replace(first, step=1, **split)
        rows = [
            {"step": s.step, "micro_batch_size": s.micro_batch_size, "tokens": s.tokens}
            for s in (first, then)
        ]
        run.directory.note(SPLITS, {"main": rows})
    trained(folder, config, objective)
    return files_of(folder / "adapter")


def assert_halves(
    folder: Path, config: Config, shortage: Shortage, name: str, share: int
) -> None:
    """Let memory run out at products of the second step, at one in so many of them."""
    objective = OBJECTIVES[name](config)
    begun = calls_of_a_step(folder / "whole", config, shortage, objective)
    usual = files_of(folder / "whole/adapter")
    halved = adapter_with(folder / "known", config, objective, micro_batch_size=2)
    assert usual != halved  # or nothing could be told
    places = range(begun[1] + 1, begun[2] + 1)
    ends = []
    for at in sorted({*places[:: max(1, len(places) // share)], places[-1]}):
        shortage.calls, shortage.at = 0, {at}
        _, facts, warnings = trained(folder / f"at-{at}", config, objective)
        ends.append(files_of(folder / f"at-{at}/adapter"))
        # While it writes, and where it is certain, nothing is added up.
        assert ends[-1] in (usual, halved), at
        if ends[-1] == halved:
            splits = facts[SPLITS]["main"]
            assert [s["micro_batch_size"] for s in splits] == [4, 2]
            assert splits[1]["step"] == 1
            assert [w for w in warnings if "memory ran out" in w] == [
                "step 1: memory ran out; from here on training passes hold at most 2 "
                "completions and others 4096 tokens, which changes gradients only by "
                "rounding; a run that resumes does the same"
            ]
    assert ends[0] == usual
    assert ends[-1] == halved


@pytest.mark.parametrize(("name", "share"), [("distillation", 2), ("reinforcement", 1)])
def test_a_step_is_begun_again_with_half_where_memory_runs_out(
    tmp_path: Path, config: Config, shortage: Shortage, name: str, share: int
) -> None:
    assert_halves(tmp_path, config, shortage, name, share)


@pytest.mark.long
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_is_begun_again_with_half_wherever_memory_runs_out(
    tmp_path: Path, config: Config, shortage: Shortage, name: str
) -> None:
    assert_halves(tmp_path, config, shortage, name, 10_000)


REALLY_SHORT = """
import resource, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import torch
from neuron_opsd.config import DistillConfig, ModelConfig
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.config.tables import load_config
from neuron_opsd.stages.training import Earlier, train
from neuron_opsd.stages.splitting import Split, Splits
from objectives import Imitating
from tests.models.test_room import long_rollouts
from tiny_runs import tiny_examples

torch.set_num_threads(1)
name, room = sys.argv[1], int(sys.argv[2])
config = load_config(None, [f"model.name={name}", "model.compute=float32",
    "prompts.form=plain", "distill.steps=2", "distill.batch_size=8",
    "distill.micro_batch_size=8", "distill.lora_rank=4"])
learner = learner_of(load_model(config.model), config.distill, 0)
found = []
splits = Splits((), lambda known, said: found.append((known[-1], said)))
objective = Imitating(config, long_rollouts)
steps = train(learner, tiny_examples(8), objective, config, 0, Earlier(0, splits))
if room:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (held + room * 2**20, -1))
print([repr(float(step.grad_norm)) for step in steps], len(found))
"""


def long_rollouts(learner: Learner, batch: Any) -> list[RolloutGroup]:
    """Have every question imitate the same long answer."""
    del learner
    ids = tuple(range(100, 200)) * 4
    written = Completion(ids, "", finished=True, logprob=0.0, entropy=0.0)
    return [
        RolloutGroup((TrainingSequence(example, written),))
        for example in batch.examples
    ]


@pytest.mark.long
def test_a_real_shortage_changes_no_gradient(tmp_path: Path) -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 1024, "head_dim": 32}
    folder = tiny_model(tmp_path / "model", "llama", chat=False, **sizes)

    def train_within(room: int) -> tuple[list[float], int]:
        done = subprocess.run(
            [sys.executable, "-c", REALLY_SHORT, str(folder), str(room)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        norms, _, times = done.stdout.strip().rpartition(" ")
        return [float(norm) for norm in ast.literal_eval(norms)], int(times)

    wanted, _ = train_within(0)
    halved = 0
    for room in (600, 300, 150):
        norms, times = train_within(room)
        assert norms == pytest.approx(wanted, rel=1e-6)
        halved += times
    assert halved


def fails_backward(objective: Objective, steps: dict[int, int]) -> Objective:
    """Return an objective whose backward pass runs out of memory, so often a step."""
    now: list[int] = []

    def roll_out(learner: Any, batch: Any) -> Any:
        now[:] = [batch.step]
        return objective.roll_out(learner, batch)

    def loss(learner: Any, sequences: Sequence[TrainingSequence]) -> Tensor:
        found = objective.loss(learner, sequences)
        if steps.get(now[0], 0) > 0 and len(sequences) > 1:
            *_, weight = learner.weights.values()

            def fail(_: Tensor) -> Tensor:
                steps[now[0]] -= 1
                handle.remove()
                raise torch.OutOfMemoryError(ON_A_GPU)

            handle = weight.register_hook(fail)
        return found

    return TwoFunctions(roll_out, loss)


def test_a_backward_pass_without_room_leaves_no_part_of_a_gradient(
    tmp_path: Path, config: Config
) -> None:
    objective = NeuronOPSD(config)
    spoilt = fails_backward(objective, {1: 1})
    found, facts, _ = trained(tmp_path / "spoilt", config, spoilt)
    halved = adapter_with(tmp_path / "known", config, objective, micro_batch_size=2)
    assert files_of(tmp_path / "spoilt/adapter") == halved
    whole, _, _ = trained(tmp_path / "whole", config, objective)
    assert [m.grad_norm for m in found] == pytest.approx(
        [m.grad_norm for m in whole], rel=1e-6
    )
    assert found[0] == whole[0]
    assert facts[SPLITS]["main"][1]["micro_batch_size"] == 2


def test_a_run_resumes_with_the_split_it_had_found(
    tmp_path: Path, config: Config
) -> None:
    objective = NeuronOPSD(config)
    trained(tmp_path / "whole", config, fails_backward(objective, {1: 2}))

    class StoppedError(Exception):
        pass

    spoilt = fails_backward(objective, {1: 2})

    def roll_out(learner: Any, batch: Any) -> Any:
        if batch.step == 2:
            raise StoppedError
        return spoilt.roll_out(learner, batch)

    with pytest.raises(StoppedError):
        trained(tmp_path / "run", config, TwoFunctions(roll_out, spoilt.loss))
    # Now there is room again; the split stays as it was found.
    _, facts, warnings = trained(tmp_path / "run", config, objective)
    sizes = [split["micro_batch_size"] for split in facts[SPLITS]["main"]]
    assert sizes == [4, 1]
    assert [w for w in warnings if w.startswith("step 1: memory ran out")]
    assert files_of(tmp_path / "run/adapter") == files_of(tmp_path / "whole/adapter")


def test_a_step_has_the_split_that_was_found_last_before_it() -> None:
    usual, found, later = Split(0, 4, 99), Split(3, 2, 99), Split(5, 1, 50)
    told: list[list[Split]] = []
    splits = Splits((), lambda known, _: told.append(list(known)))
    assert splits.at(7, usual) == usual
    splits.change(replace(usual, step=3), found, "")
    splits.change(replace(found, step=5), later, "")
    assert [splits.at(n, usual) for n in (0, 2, 3, 4, 5, 9)] == [
        *(usual, usual, found, found, later, later)
    ]
    assert told[-1] == [usual, found, later]
    # Less is found earlier, by a run that resumes there: what came after is forgotten.
    splits.change(replace(found, step=4), Split(4, 1, 99), "")
    assert told[-1] == [usual, found, Split(4, 1, 99)]


def test_one_completion_without_room_ends_in_a_line(
    tmp_path: Path, config: Config, shortage: Shortage
) -> None:
    objective = NeuronOPSD(config)

    def loss(*_: Any) -> Tensor:
        raise torch.OutOfMemoryError(ON_A_GPU)

    with pytest.raises(TryAgainError) as caught:
        trained(tmp_path, config, TwoFunctions(objective.roll_out, loss))
    text = str(caught.value)
    assert text.startswith(
        "memory ran out on the training pass of a completion alone (2.00 GiB more"
    )
    assert "\n" not in text
    del shortage


def test_the_gradient_is_that_of_the_whole_batch(
    tmp_path: Path, config: Config
) -> None:
    from neuron_opsd.models.load import learner_of

    del tmp_path
    norms = []
    for size in (4, 3, 2, 1):
        learner = learner_of(load_model(config.model), config.distill, config.seed)
        earlier = Earlier(splits=Splits([Split(0, size, 4096)]))
        steps = train(learner, EXAMPLES, NeuronOPSD(config), config, earlier)
        norms.append(next(steps).grad_norm)
    assert norms[1:] == pytest.approx([norms[0]] * 3, rel=1e-6)


def test_room_is_kept_with_the_run(
    tmp_path: Path, config: Config, shortage: Shortage
) -> None:
    pairs = random_pairs([(9, 2)] * 6, 300)
    columns = [[(5,)] * 3] * 6
    with opened(tmp_path, config) as run:
        model = load_model(config.model)
        keep_room(run, model)
        shortage.most_rows = 3
        model.logits_at(pairs, columns)
        assert run.directory.manifest.facts[ROOM] == 33
        (told,) = run.directory.warnings
        assert told.startswith("memory ran out (4000 bytes more were asked for); ")
    shortage.most_rows = None  # a model that is loaded is tried with four rows
    with opened(tmp_path, config) as run:
        shortage.most_rows = None
        again = load_model(config.model)
        shortage.most_rows = 3
        keep_room(run, again)
        shortage.most_rows = 3
        assert again.room.tokens == 33
        again.logits_at(pairs, columns)
        assert run.directory.warnings == []
