"""Numbers that are none: never written, told with step, questions and kind."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from loaded import loaded
from neuron_opsd.config import Config, NeuronsConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import NotFiniteError, TrainingError
from neuron_opsd.method.neurons import NeuronCounter, Sizes
from neuron_opsd.methods.distillation import NeuronOPSD
from neuron_opsd.methods.imitation import FormOnly
from neuron_opsd.models.decoding.growing import Growing, Request, ending_of
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import load_model
from neuron_opsd.models.roles import Learner, Sampling
from neuron_opsd.models.weights.finite import first_not_finite
from neuron_opsd.progress import Silent
from neuron_opsd.records import StepMetrics
from neuron_opsd.runs.adapters import Training
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.inputs import run_settings
from neuron_opsd.runs.metrics import append_metrics, read_metrics
from neuron_opsd.runs.training import train_adapter
from neuron_opsd.stages.beliefs import token_divergences
from neuron_opsd.stages.capture import capture_neurons
from neuron_opsd.stages.policy_gradient import Rewards
from neuron_opsd.stages.rollouts import Draw, PromptedQuestion, complete
from neuron_opsd.stages.training import MAX_SKIPPED, Objective, TrainingSequence
from neuron_opsd.stages.training_rollouts import VotedGroup
from neuron_opsd.storage.integrity import proof_of
from neuron_opsd.storage.run_directory import RunDirectory
from objectives import Rewarding
from resolved import sampled_among_choices
from tiny import tiny_model
from tiny_runs import SETTINGS, files_of, read_sealed, tiny_examples, write_sealed

WRONG = (math.nan, math.inf, -math.inf)
HUGE = 1e38
EXAMPLES = tuple(
    replace(e, question=replace(e.question, choices=e.choices))
    for e in tiny_examples(4)
)
STEPS = 5
PLACES = (0, 2, STEPS - 1)
"""The first step, a middle one, and the last."""

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkp:FutureWarning")

Fault: TypeAlias = Callable[[HFLearner, float], None]
"""Spoils something of a learner that is about to take a step."""


# --- drawing, scoring, reading off ---


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(0.0),
        Sampling(1.0),
        Sampling(0.6, top_p=0.9),
        Sampling(0.6, top_k=3),
        Sampling(2.0, min_p=0.1),
    ],
    ids=["greedy", "plain", "top_p", "top_k", "min_p"],
)
def test_no_token_is_drawn_from_logits_that_are_none(
    tiny_llama: Path, sampling: Sampling, wrong: float
) -> None:
    ending = ending_of(loaded(tiny_llama).tokens, sampling)
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(0))
    logits[1] = wrong
    if wrong > 0 or math.isnan(wrong):
        logits[3, 7] = wrong  # a single one spoils a row as well
    rows = [Growing((place, 0), [0.5, 0.5]) for place in range(4)]
    with pytest.raises(NotFiniteError, match="token 1 of an answer") as caught:
        Request([], [], sampling, ending).draw(rows, logits)
    assert caught.value.places == ((1,) if wrong == -math.inf else (1, 3))
    assert all(not row.token_ids for row in rows)


def test_what_is_left_of_a_request_names_the_prompts_of_the_whole(
    tiny_llama: Path,
) -> None:
    sampling = Sampling(1.0, max_new_tokens=1)
    ending = ending_of(loaded(tiny_llama).tokens, sampling)
    request = Request([(5,), (6,), (7,)], [[1, 2], [3], [4]], sampling, ending)
    request.draw(request.begin(0, [1]) + request.begin(1, [0]), torch.zeros(2, 300))
    assert request.left() == [[0], [], [0]]
    rows = [
        row
        for i, numbers in enumerate(request.left())
        if numbers
        for row in request.begin(i, numbers)
    ]
    logits = torch.zeros(2, 300)
    logits[1] = torch.nan
    with pytest.raises(NotFiniteError) as caught:
        request.draw(rows, logits)
    assert caught.value.places == (2,)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_a_huge_logit_and_forbidden_tokens_are_drawn_as_ever(
    tiny_llama: Path, temperature: float
) -> None:
    logits = torch.zeros(1, 300)
    logits[0, :200] = -torch.inf
    logits[0, 250] = HUGE
    rows = [Growing((0, 0), [0.5, 0.5])]
    sampling = Sampling(temperature)
    ending = ending_of(loaded(tiny_llama).tokens, sampling)
    Request([], [], sampling, ending).draw(rows, logits)
    assert rows[0].token_ids == [250]


def questions(count: int, *, free: bool) -> list[PromptedQuestion]:
    return [
        PromptedQuestion(e.question, e.student_prompt, () if free else e.choices)
        for e in tiny_examples(count)
    ]


def poisoned_answers(
    model: HFModel, monkeypatch: pytest.MonkeyPatch, wrong: float, at: int
) -> None:
    """Spoil the final states of whichever row of a pass begins with question `at`."""
    real = HFModel.run
    victim = model.encode(tiny_examples(at + 1)[at].student_prompt)

    def run(self: HFModel, decoder: Any, weights: Any, inputs: dict[str, Any]) -> Any:
        states = real(self, decoder, weights, inputs)
        for row, ids in enumerate(inputs["input_ids"].tolist()):
            if tuple(ids[: len(victim)]) == victim or tuple(ids[-len(victim) :]) == (
                victim
            ):
                states[row] = wrong
        return states

    monkeypatch.setattr(HFModel, "run", run)


@pytest.mark.parametrize("free", [True, False], ids=["free", "choices"])
@pytest.mark.parametrize("shares", [True, False], ids=["shared", "plain"])
@pytest.mark.parametrize("wrong", WRONG)
def test_answers_name_the_question_that_cannot_be_computed(
    tiny_llama_plain: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: bool,
    shares: bool,
    wrong: float,
) -> None:
    model = loaded(tiny_llama_plain)
    model.facts = replace(model.facts, shares_prompts=shares)
    poisoned_answers(model, monkeypatch, wrong, at=2)
    draws = [Draw(Sampling(1.0, max_new_tokens=3), [[1, 2]] * 4)]
    with pytest.raises(NotFiniteError, match="question q2: the logits") as caught:
        complete(model, questions(4, free=free), draws)
    assert caught.value.questions == ("q2",)


def test_a_divergence_that_is_no_number_is_refused(
    tiny_llama_plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(tiny_llama_plain)
    poisoned_answers(model, monkeypatch, math.nan, at=1)
    rows = [(a, a.prompt, (5, 6)) for a in questions(3, free=True)]
    with pytest.raises(NotFiniteError, match="question q1") as caught:
        token_divergences(model, rows)
    assert caught.value.questions == ("q1",)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("rule", ["flat", "per-token", "neufs"])
def test_no_neuron_counts_whose_score_is_none(rule: Any, wrong: float) -> None:
    scores = torch.randn(7, 16, generator=torch.Generator().manual_seed(1))
    counter = NeuronCounter([2, 4, 1], rule, Sizes(4, 4))
    counter.add(0, scores)
    scores[3, 5] = wrong
    with pytest.raises(NotFiniteError, match="scores of layer 1") as caught:
        counter.add(1, scores)
    assert caught.value.places == (1,)
    scores[3, 5] = HUGE
    counter.add(1, scores)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_neurons_of_activations_that_are_none_name_their_question(
    tiny_llama_plain: Path, compute: str
) -> None:
    model = loaded(tiny_llama_plain, compute=compute)
    pairs = [((5, 6, 7), (8, 9)), ((5, 6, 300), (8, 9, 10)), ((4,), (3,))]
    embedding = model.network.get_input_embeddings().weight
    with torch.no_grad():
        embedding[300] = math.nan
    with pytest.raises(NotFiniteError) as caught:
        capture_neurons(model, ["a", "b", "c"], pairs, NeuronsConfig(), 4096)
    assert caught.value.questions == ("b",)
    assert "contribution scores of layer 0" in str(caught.value)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_products_that_overflow_are_told(tiny_qwen3: Path, compute: str) -> None:
    model = loaded(tiny_qwen3, compute=compute)
    with torch.no_grad():
        model.network.get_output_embeddings().weight.fill_(3e38)
    model.release()
    draws = [Draw(Sampling(1.0, max_new_tokens=3), [[1]])]
    prompt = replace(tiny_examples(1)[0].student_prompt)
    asked = [PromptedQuestion(tiny_examples(1)[0].question, prompt)]
    with pytest.raises(NotFiniteError, match="question q0"):
        complete(model, asked, draws)


# --- training ---


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("plain"), "llama", chat=False)


@pytest.fixture
def config(model_folder: Path) -> Config:
    return config_for(model_folder)


def config_for(model_folder: Path) -> Config:
    """Return the settings of a short training that keeps every step."""
    more = [f"model.name={model_folder}", "prompts.form=plain"]
    more += [f"distill.steps={STEPS}", "distill.num_samples=2"]
    more += ["distill.checkpoint_every=1", "distill.micro_batch_size=4"]
    return load_config(None, [*SETTINGS, *more])


def shares_of_even(learner: Learner, groups: Sequence[VotedGroup]) -> Rewards:
    """Reward rollouts of a group unlike each other."""
    del learner
    return [[float(k) for k in range(len(g.completions))] for g in groups]


FAMILIES: dict[str, Callable[[Config], Objective]] = {
    "distillation": NeuronOPSD,
    "imitation": FormOnly,
    "reinforcement": lambda config: Rewarding(config, shares_of_even, 0.1),
}


def spoil_gradient(learner: HFLearner, value: float) -> None:
    *_, weight = learner.weights.values()

    def spoil(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[0, 0] = value
        return gradient

    weight.register_hook(spoil)


def spoil_weight(learner: HFLearner, value: float) -> None:
    *_, weight = learner.weights.values()
    with torch.no_grad():
        weight[0, 0] = value
    learner.moved()


def spoil_teacher(learner: HFLearner, value: float) -> None:
    *_, weight = learner.teacher_weights.values()
    weight[0, 0] = value
    learner.moved()


def spoil_moment(name: str) -> Fault:
    def spoil(learner: HFLearner, value: float) -> None:
        *_, weight = learner.weights.values()
        if weight in learner.optimizer.state:
            learner.optimizer.state[weight][name][0, 0] = value
        else:  # before the first step there are none
            spoil_weight(learner, value)

    return spoil


FAULTS: dict[str, Fault] = {
    "gradient": spoil_gradient,
    "student": spoil_weight,
    "teacher": spoil_teacher,
    "first moment": spoil_moment("exp_avg"),
    "second moment": spoil_moment("exp_avg_sq"),
}


class SpoiltObjective:
    """An objective that spoils something at a step, or its own loss."""

    def __init__(
        self, real: Objective, steps: Sequence[int], value: float, fault: Fault | None
    ) -> None:
        self.real, self.steps, self.value, self.fault = real, steps, value, fault
        self.step = -1

    def roll_out(self, learner: Any, batch: Any) -> Any:
        """Return the real rollouts, then spoil the learner."""
        self.step = batch.step
        groups = self.real.roll_out(learner, batch)
        if batch.step in self.steps and self.fault is not None:
            self.fault(learner, self.value)
        return groups

    def loss(self, learner: Any, sequences: Sequence[TrainingSequence]) -> Tensor:
        """Return the real loss, spoilt where nothing else is."""
        loss = self.real.loss(learner, sequences)
        if self.step in self.steps and self.fault is None:
            return loss * self.value
        return loss


@contextmanager
def opened(folder: Path, config: Config) -> Iterator[RunContext]:
    progress = Silent()
    with RunDirectory.open(folder, {}, {}, warn=progress.warn) as run:
        yield RunContext(run, sampled_among_choices(config), progress)


def trained(
    folder: Path, config: Config, objective: Objective
) -> tuple[tuple[StepMetrics, ...], list[str]]:
    """Train; return metrics and warnings."""
    with opened(folder, config) as run:
        base = load_model(config.model)
        found = train_adapter(run, base, Training("main"), EXAMPLES, objective)
        return found, run.directory.warnings


def assert_all_finite(folder: Path) -> None:
    """Look at every tensor and every row below a run directory."""
    for path in folder.rglob("*.safetensors"):
        assert first_not_finite(load_file(path)) == "", path
    for entry in read_metrics(folder / "train"):
        assert "nan" not in json.dumps(entry.loss).lower()
        assert math.isfinite(entry.loss + entry.grad_norm + entry.entropy)


@pytest.fixture(scope="module")
def clean(
    model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, bytes]]:
    """Give the adapters that nothing went wrong with, by family."""

    @cache
    def adapter(family: str) -> dict[str, bytes]:
        folder = tmp_path_factory.mktemp("clean")
        settings = config_for(model_folder)
        trained(folder, settings, FAMILIES[family](settings))
        return files_of(folder / "adapter")

    return adapter


ALL_CASES = [
    pytest.param(
        family,
        kind,
        at,
        marks=[] if (number + place) % 3 == turn == place % 3 else pytest.mark.long,
    )
    for number, family in enumerate(FAMILIES)
    for place, kind in enumerate(["loss", *FAULTS])
    for turn, at in enumerate(PLACES)
]
"""Every kind in every family at every place; some are always tried."""


@pytest.mark.parametrize(("family", "kind", "at"), ALL_CASES)
def test_nothing_that_is_no_number_is_kept_and_the_run_resumes(
    tmp_path: Path,
    config: Config,
    clean: Callable[[str], dict[str, bytes]],
    family: str,
    kind: str,
    at: int,
) -> None:
    real = FAMILIES[family](config)
    value = WRONG[(at + len(kind)) % 3]
    spoilt = SpoiltObjective(real, [at], value, FAULTS.get(kind))
    with pytest.raises(TrainingError) as caught:
        trained(tmp_path / "run", config, spoilt)
    text = str(caught.value)
    assert text.startswith(f"step {at}: ")
    assert "\n" not in text
    assert_all_finite(tmp_path / "run")
    assert [m.step for m in read_metrics(tmp_path / "run/train")] == list(range(at))
    # What was kept before is whole: without the fault all ends as if it had not been.
    trained(tmp_path / "run", config, real)
    assert files_of(tmp_path / "run/adapter") == clean(family)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("loss", "step 2: the loss is nan (questions q"),
        ("gradient", "step 2: the gradient's norm is nan, from that of "),
        ("teacher", "step 2: the loss is nan (questions q"),
        ("second moment", "step 2: student."),
    ],
)
def test_the_kind_is_told(tmp_path: Path, config: Config, kind: str, said: str) -> None:
    spoilt = SpoiltObjective(NeuronOPSD(config), [2], math.nan, FAULTS.get(kind))
    with pytest.raises(TrainingError) as caught:
        trained(tmp_path, config, spoilt)
    assert str(caught.value).startswith(said)


def test_huge_numbers_end_in_finite_weights_or_a_line(
    tmp_path: Path, config: Config
) -> None:
    for kind in ["loss", "teacher", "first moment"]:
        folder = tmp_path / kind.replace(" ", "-")
        spoilt = SpoiltObjective(NeuronOPSD(config), [1], HUGE, FAULTS.get(kind))
        try:
            trained(folder, config, spoilt)
        except TrainingError as error:
            assert re.match(r"step [12]: ", str(error))  # noqa: PT017 - or it is huge
        else:
            assert kind.endswith("moment")
        assert_all_finite(folder)


@pytest.mark.parametrize("wrong", WRONG)
def test_rewards_that_are_none_name_their_question(
    tmp_path: Path, config: Config, wrong: float
) -> None:
    def reward(learner: Learner, groups: Sequence[VotedGroup]) -> Rewards:
        found = [list(one) for one in shares_of_even(learner, groups)]
        for group, rewards in zip(groups, found, strict=True):
            if group.example.question_id == "q3":
                rewards[1] = wrong
        return [*found]

    with pytest.raises(TrainingError) as caught:
        trained(tmp_path, config, Rewarding(config, reward))
    assert "the rewards of rollouts are not finite (question q3)" in str(caught.value)
    assert_all_finite(tmp_path)


def test_logits_that_are_none_stop_a_step_before_it_is_written(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(*args: Any) -> Any:
        found = logits_at(*args)
        return [[np.full_like(v, math.nan) for v in values] for values in found]

    logits_at = HFModel.logits_at
    monkeypatch.setattr(HFModel, "logits_at", scores)
    with pytest.raises(TrainingError, match="step 0: the logits of its choices"):
        trained(tmp_path, config, NeuronOPSD(config))
    assert_all_finite(tmp_path)


# --- skipping ---


def skipping(config: Config) -> Config:
    distill = config.distill.model_copy(update={"on_nonfinite": "skip"})
    return config.model_copy(update={"distill": distill})


def test_a_step_is_skipped_and_named_where_the_settings_say_so(
    tmp_path: Path, config: Config
) -> None:
    spoilt = SpoiltObjective(NeuronOPSD(config), [2], math.nan, None)
    config = skipping(config)
    metrics, warnings = trained(tmp_path / "run", config, spoilt)
    assert [bool(m.skipped) for m in metrics] == [False, False, True, False, False]
    assert metrics[2].skipped.startswith("the loss is nan (questions q")
    assert metrics[2].num_tokens == 0
    assert [w for w in warnings if w.startswith("step 2 was skipped and nothing was")]
    assert_all_finite(tmp_path / "run")
    # Whoever looks at the finished training again is told again.
    _, again = trained(tmp_path / "run", config, spoilt)
    assert again == warnings


def test_a_run_that_stopped_resumes_by_skipping_to_the_same_bytes(
    tmp_path: Path, config: Config
) -> None:
    spoilt = SpoiltObjective(NeuronOPSD(config), [2], math.inf, None)
    with pytest.raises(TrainingError, match=r"distill\.on_nonfinite=skip"):
        trained(tmp_path / "run", config, spoilt)
    assert run_settings(config) == run_settings(skipping(config))
    trained(tmp_path / "run", skipping(config), spoilt)
    trained(tmp_path / "whole", skipping(config), spoilt)
    assert files_of(tmp_path / "run/adapter") == files_of(tmp_path / "whole/adapter")


def test_no_more_than_three_steps_in_a_row_are_skipped(
    tmp_path: Path, config: Config
) -> None:
    assert MAX_SKIPPED == 3
    all_steps = range(1, STEPS)
    spoilt = SpoiltObjective(NeuronOPSD(config), all_steps, math.nan, None)
    config = skipping(config)
    with pytest.raises(TrainingError, match=r"step 4: .*3 steps before it were skip"):
        trained(tmp_path, config, spoilt)
    # A run that resumes has not forgotten them.
    with pytest.raises(TrainingError, match="step 4: "):
        trained(tmp_path, config, spoilt)


def test_what_a_step_made_cannot_be_skipped(tmp_path: Path, config: Config) -> None:
    fault = FAULTS["second moment"]
    spoilt = SpoiltObjective(NeuronOPSD(config), [2], math.inf, fault)
    with pytest.raises(TrainingError, match=r"step 2: optimizer\.exp_avg_sq\..* after"):
        trained(tmp_path, skipping(config), spoilt)


# --- the last walls ---


def test_metrics_hold_no_number_that_is_none(tmp_path: Path) -> None:
    entry = StepMetrics(3, 0.1, 1.0, 1e-3, 10, 5.0, 0.0, math.nan, 0.1)
    with pytest.raises(TrainingError, match="step 3: its entropy is nan"):
        append_metrics(tmp_path, entry)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_with_a_number_that_is_none_is_passed_over(
    tmp_path: Path, config: Config
) -> None:
    real = NeuronOPSD(config)
    trained(tmp_path, config, real)
    adapter = files_of(tmp_path / "adapter")
    manifest = read_sealed(tmp_path / "manifest.json")
    for name in [n for n in manifest["outputs"] if "step-" in n or n == "adapter"]:
        del manifest["outputs"][name]
    write_sealed(tmp_path / "manifest.json", manifest)
    folder = tmp_path / f"train/checkpoints/step-{STEPS:06d}"
    spoil_checkpoint(folder)
    _, warnings = trained(tmp_path, config, real)
    (told,) = [w for w in warnings if "is skipped" in w]
    assert told.endswith("is not finite")
    assert files_of(tmp_path / "adapter") == adapter


def spoil_checkpoint(folder: Path) -> None:
    """Write a state again, as a version without these checks could have kept it."""
    from safetensors import safe_open

    path = folder / "state.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    state[next(iter(state))].view(-1)[0] = math.nan
    save_file(state, path, metadata=metadata)
    facts = json.loads((folder / "checkpoint.json").read_text())
    facts["sha256"] = proof_of(path)[0]
    (folder / "checkpoint.json").write_text(json.dumps(facts))
