"""A model that learns: its teacher by recurrence, its gradients in parts, its files.

Axes: N completion tokens, D residual width, V vocabulary.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import pytest
import torch
from peft import PeftModel
from torch import Tensor

import places
from loaded import (
    learning,
    loaded,
    logits_of,
    plain_logits,
    plain_network,
    random_pairs,
)
from neuron_opsd.config import Config, DistillConfig, PromptsConfig, RolloutsConfig
from neuron_opsd.errors import NotFiniteError, TrainingError
from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.method.losses import imitation_loss
from neuron_opsd.methods.distillation import NeuronOPSD
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.records import (
    Completion,
    Message,
    Pair,
    Prompt,
    Question,
    TrainingExample,
)
from neuron_opsd.stages.training import (
    Earlier,
    RolloutGroup,
    TrainingSequence,
    gather_gradients,
    move_teacher,
    train,
)
from objectives import Imitating
from tiny import tiny_model

Tuning: TypeAlias = Literal["lora", "full"]

TUNINGS: Final[tuple[Tuning, ...]] = ("lora", "full")
ANSWERS: Final = ("blue", "carbon dioxide", "no", "the answer is 5")

# PEFT asks transformers for a name that this version has changed.
plain_peft = pytest.mark.filterwarnings("ignore:.is_gradient_checkp:FutureWarning")


@pytest.fixture(params=["llama", "qwen3", "gemma3"])
def folder(request: pytest.FixtureRequest) -> Path:
    """Give models with a tied head, an untied one and with Gemma's norms."""
    found: Path = request.getfixturevalue(f"tiny_{request.param}")
    return found


def asking(text: str, *shown: tuple[str, str]) -> Prompt:
    turns = [
        turn
        for question, answer in shown
        for turn in (Message("user", question), Message("assistant", answer))
    ]
    return Prompt(messages=(*turns, Message("user", text)))


def examples() -> list[TrainingExample]:
    """Return four questions whose teacher sees a demonstration."""
    return [
        TrainingExample(
            Question(f"q{i}", (Message("user", f"Question {i}?"),)),
            asking(f"Question {i}?"),
            asking(f"Question {i}?", ("What colour is the sky?", "blue")),
        )
        for i in range(len(ANSWERS))
    ]


def completions(learner: HFLearner) -> list[Completion]:
    """Return one answer to each example, end token included."""
    return [
        Completion(
            learner.encode_answer(example.student_prompt, answer),
            answer,
            finished=True,
            logprob=0.0,
            entropy=0.0,
        )
        for example, answer in zip(examples(), ANSWERS, strict=True)
    ]


def config_of(**tuning: Any) -> Config:
    return Config(
        prompts=PromptsConfig(form="chat"),
        rollouts=RolloutsConfig(mode="free", max_new_tokens=6),
        distill=DistillConfig(
            **({"steps": 6, "batch_size": 4, "warmup_steps": 0} | tuning)
        ),
    )


def gather(learner: HFLearner, **tuning: Any) -> float:
    """Add up the gradient of all examples; return the loss."""
    config = config_of(**tuning)
    return gather_gradients(
        learner,
        [
            TrainingSequence(example, completion)
            for example, completion in zip(
                examples(), completions(learner), strict=True
            )
        ],
        NeuronOPSD(config),
        config.distill,
    )


def some_steps(learner: HFLearner, count: int, rate: float = 3e-3) -> None:
    """Train on the same answers, the teacher following."""
    for _ in range(count):
        gather(learner)
        learner.step(rate)
        learner.update_teacher(0.25)


def copies(weights: Any) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def gradients(learner: HFLearner) -> dict[str, Tensor]:
    found = {
        name: weight.grad.clone()
        for name, weight in learner.weights.items()
        if weight.grad is not None
    }
    assert found.keys() == learner.weights.keys()
    return found


def pairs_for(learner: HFLearner) -> list[Pair]:
    return random_pairs([(5, 4), (2, 1), (7, 3)], learner.facts.vocab_size)


# --- what is trained ---


def test_an_adapter_is_trained_alone_and_begins_as_nothing(folder: Path) -> None:
    learner, model = learning(folder), loaded(folder)
    assert all(".lora_" in name for name in learner.weights)
    pairs = pairs_for(learner)
    with torch.no_grad():
        torch.testing.assert_close(learner.student(pairs).hidden, model.states(pairs))
    assert not learner.head().weight.requires_grad


def test_full_tuning_trains_every_weight(folder: Path) -> None:
    learner = learning(folder, tuning="full")
    assert learner.weights.keys() == dict(learner.network.named_parameters()).keys()
    assert learner.head().weight.requires_grad


def test_every_linear_layer_but_the_unembedding_has_an_adapter(
    tiny_qwen3: Path,
) -> None:
    learner = learning(tiny_qwen3)
    adapted = {name.split(".lora_")[0].split(".")[-1] for name in learner.weights}
    assert adapted == {
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    }
    assert len(learner.weights) == 2 * 7 * 2


def test_an_adapter_depends_on_its_seed_and_on_nothing_global(
    tiny_llama: Path,
) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = copies(learning(tiny_llama, seed=5).weights)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    same = learning(tiny_llama, seed=5).weights
    other = learning(tiny_llama, seed=6).weights
    for name, weight in first.items():
        assert torch.equal(weight, same[name])
        assert torch.equal(weight, other[name]) == ("lora_B" in name)


# --- the teacher ---


@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_teacher_begins_as_the_student(folder: Path, tuning: Tuning) -> None:
    learner = learning(folder, tuning=tuning)
    pairs = pairs_for(learner)
    torch.testing.assert_close(
        learner.teacher(pairs).hidden, learner.student(pairs).hidden.detach()
    )
    assert torch.equal(learner.teacher(pairs).weight, learner.head().weight)


@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_ema_teacher_follows_its_recurrence(
    tiny_llama: Path, tuning: Tuning
) -> None:
    learner = learning(tiny_llama, tuning=tuning)
    by_hand = {name: w.detach().double() for name, w in learner.weights.items()}
    for _ in range(5):
        gather(learner)
        learner.step(1e-2)
        learner.update_teacher(0.1)
        for name, weight in learner.weights.items():
            by_hand[name] = 0.9 * by_hand[name] + 0.1 * weight.detach().double()
    moved = 0.0
    for name, value in learner.teacher_weights.items():
        torch.testing.assert_close(value.double(), by_hand[name], rtol=1e-6, atol=1e-7)
        moved = max(moved, (value - learner.weights[name]).abs().max().item())
    assert moved > 1e-3


@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_teacher_computes_as_a_model_with_its_weights(
    folder: Path, tuning: Tuning
) -> None:
    learner, other = (learning(folder, tuning=tuning) for _ in range(2))
    some_steps(learner, 3)
    with torch.no_grad():
        for name, weight in other.weights.items():
            weight.copy_(learner.teacher_weights[name])
    pairs = pairs_for(learner)
    teacher = learner.teacher(pairs)
    hidden, head = teacher.hidden, teacher
    exact, exact_head = other.student(pairs).hidden.detach(), other.head()
    torch.testing.assert_close(hidden, exact, rtol=1e-5, atol=1e-5)
    assert torch.equal(head.weight, exact_head.weight)
    assert head.softcap == exact_head.softcap
    student = learner.student(pairs).hidden.detach()
    assert (student - hidden).abs().max() > 1e-3
    assert not hidden.requires_grad
    assert not head.weight.requires_grad


def test_the_teacher_leaves_the_student_as_it_was(tiny_llama: Path) -> None:
    learner = learning(tiny_llama)
    some_steps(learner, 2)
    pairs = pairs_for(learner)
    before, weights = learner.student(pairs).hidden, copies(learner.weights)
    learner.teacher(pairs)
    assert torch.equal(learner.student(pairs).hidden, before)
    assert all(torch.equal(learner.weights[n], w) for n, w in weights.items())
    assert all(weight.requires_grad for weight in learner.weights.values())


@pytest.mark.parametrize(
    ("teacher", "equals_student_after"),
    [
        pytest.param("frozen", [False] * 5, id="frozen"),
        pytest.param("live", [True] * 5, id="live"),
        pytest.param("periodic", [False, False, True, False, False], id="periodic"),
        pytest.param("ema", [False] * 5, id="ema"),
    ],
)
def test_each_kind_of_teacher_moves_when_it_should(
    tiny_llama: Path, teacher: str, equals_student_after: list[bool]
) -> None:
    learner = learning(tiny_llama)
    config = config_of(teacher=teacher, teacher_period=3, ema_rate=0.5).distill
    start = copies(learner.weights)
    seen = []
    for step in range(5):
        gather(learner)
        learner.step(1e-2)
        before = copies(learner.teacher_weights)
        move_teacher(learner, step, config)
        seen.append(equal(learner.teacher_weights, copies(learner.weights)))
        assert equal(learner.teacher_weights, before) == (
            teacher == "frozen" or (teacher == "periodic" and step != 2)
        )
    assert seen == equals_student_after
    assert equal(learner.teacher_weights, start) == (teacher == "frozen")


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


# --- gradients ---


@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("micro_batch_size", [1, 2, 3])
def test_the_size_of_micro_batches_does_not_change_the_gradient(
    tiny_llama: Path, tuning: Tuning, micro_batch_size: int
) -> None:
    whole, parts = (learning(tiny_llama, tuning=tuning) for _ in range(2))
    for learner in (whole, parts):
        some_steps(learner, 1, rate=3e-2)
    loss = gather(whole, micro_batch_size=4)
    assert loss > 0
    assert gather(parts, micro_batch_size=micro_batch_size) == pytest.approx(
        loss, abs=1e-6
    )
    found, exact = gradients(parts), gradients(whole)
    assert max(grad.abs().max().item() for grad in exact.values()) > 1e-3
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-6)


def test_chunks_of_positions_do_not_change_the_gradient(tiny_llama: Path) -> None:
    whole, parts = (learning(tiny_llama, tuning="full") for _ in range(2))
    assert gather(whole, chunk_positions=1000) == pytest.approx(
        gather(parts, chunk_positions=1), abs=1e-6
    )
    torch.testing.assert_close(gradients(parts), gradients(whole), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_gradient_is_that_of_transformers_and_the_dense_formula(
    folder: Path, tuning: Tuning
) -> None:
    assert_gradient_is_dense(folder, tuning)


def test_a_softcap_is_part_of_the_gradient(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m", "gemma3", final_logit_softcapping=3.0)
    for tuning in TUNINGS:
        assert_gradient_is_dense(folder, tuning)


def assert_gradient_is_dense(folder: Path, tuning: Tuning) -> None:
    """Compare with one backward pass per question through the whole network."""
    learner, other = (learning(folder, tuning=tuning) for _ in range(2))
    loss = gather(learner)
    total = torch.zeros(())
    num_tokens = 0
    for example, completion in zip(examples(), completions(other), strict=True):
        ids = completion.token_ids
        student, teacher = (
            dense_logits(other, other.encode(prompt), ids)
            for prompt in (example.student_prompt, example.teacher_prompt)
        )
        p, q = student.softmax(-1), teacher.detach().softmax(-1)
        total = total + (p * (p / q).log()).sum()
        num_tokens += len(ids)
    (total / num_tokens).backward()
    assert loss == pytest.approx(total.item() / num_tokens, abs=1e-5)
    torch.testing.assert_close(
        gradients(learner), gradients(other), rtol=1e-3, atol=1e-5
    )


def dense_logits(learner: HFLearner, prompt: Any, completion: Any) -> Tensor:
    """Return ``(T, V)`` logits that predict a completion, from the whole network."""
    ids = torch.tensor([prompt + completion])
    logits: Tensor = learner.network(input_ids=ids).logits[0]
    return logits[len(prompt) - 1 : -1]


def test_the_end_token_is_trained_though_it_also_pads(tiny_llama: Path) -> None:
    learner = learning(tiny_llama)
    tokenizer = learner.tokens.tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    answers = completions(learner)
    pairs = [
        (learner.encode(example.student_prompt), completion.token_ids)
        for example, completion in zip(examples(), answers, strict=True)
    ]
    targets = torch.tensor([token for _, ids in pairs for token in ids])
    ends = targets == tokenizer.eos_token_id
    assert ends.sum() == len(pairs)
    hidden = learner.student(pairs).hidden
    hidden.retain_grad()
    head = learner.head()
    imitation_loss(HiddenStates(hidden, head.weight), targets, 4).backward()
    assert hidden.grad is not None
    # Softmax minus one-hot, through the unembedding: no row may be masked away.
    shares = (hidden.detach() @ head.weight.T).softmax(-1)
    shares[torch.arange(len(targets)), targets] -= 1.0
    torch.testing.assert_close(hidden.grad, shares @ head.weight, rtol=1e-4, atol=1e-5)
    assert (hidden.grad[ends].norm(dim=-1) > 1e-3).all()


def test_imitation_makes_the_end_token_likelier(tiny_llama: Path) -> None:
    learner = learning(tiny_llama)
    config = config_of(steps=10, learning_rate=1e-2)
    answers = completions(learner)

    def roll_out(*_: Any) -> list[RolloutGroup]:
        example = examples()[0]
        return [
            RolloutGroup((TrainingSequence(example, answer),)) for answer in answers
        ]

    def end_logprob() -> float:
        example, ids = examples()[0], answers[0].token_ids
        network = learner.network
        logits = plain_logits(network, learner.encode(example.student_prompt) + ids)
        return logits[-2].log_softmax(-1)[ids[-1]].item()

    before = end_logprob()
    objective = Imitating(config, roll_out)
    for _ in train(learner, examples()[:1] * 4, objective, config):
        pass
    assert end_logprob() > before + 1.0


# --- steps ---


def test_a_step_is_clipped_adamw(tiny_llama: Path) -> None:
    learner = learning(tiny_llama, tuning="full", weight_decay=0.1, max_grad_norm=0.5)
    gather(learner)
    grads, before = gradients(learner), copies(learner.weights)
    norm = torch.stack([grad.norm() for grad in grads.values()]).norm()
    found = learner.step(1e-2)
    assert found == pytest.approx(norm.item(), rel=1e-5)
    scale = min(1.0, 0.5 / found)
    for name, weight in learner.weights.items():
        # At the first step both moments are the gradient itself, bias corrected.
        g = grads[name] * scale
        moved = before[name] * (1 - 1e-2 * 0.1) - 1e-2 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(weight.detach(), moved, rtol=1e-4, atol=1e-5)
        assert weight.grad is None


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_moves_nothing(
    tiny_llama: Path, wrong: float
) -> None:
    learner = learning(tiny_llama)
    some_steps(learner, 1)
    gather(learner)
    *_, last = learner.weights.values()
    assert last.grad is not None
    last.grad[0, 0] = wrong
    before = copies(learner.state())
    with pytest.raises(NotFiniteError, match=r"gradient's norm is (nan|inf)"):
        learner.step(1e-2)
    assert equal(before, learner.state())


def test_training_stops_with_the_questions_of_a_gradient_that_is_no_number(
    tiny_llama: Path,
) -> None:
    learner = learning(tiny_llama)
    with torch.no_grad():
        next(iter(learner.weights.values())).fill_(float("inf"))
    config = config_of()

    def roll_out(*_: Any) -> list[RolloutGroup]:
        return [
            RolloutGroup((TrainingSequence(example, completion),))
            for example, completion in zip(
                examples(), completions(learner), strict=True
            )
        ]

    with pytest.raises(TrainingError, match=r"step 0: the loss is .*q0, q1, q2, q3"):
        next(train(learner, examples(), Imitating(config, roll_out), config))


def test_an_adapter_leaves_the_weights_below_it_alone(tiny_llama: Path) -> None:
    learner, network = learning(tiny_llama), plain_network(tiny_llama)
    some_steps(learner, 3)
    below = {
        name.replace(".base_layer", ""): weight
        for name, weight in learner.network.named_parameters()
        if ".lora_" not in name
    }
    assert below.keys() == dict(network.named_parameters()).keys()
    for name, weight in network.named_parameters():
        assert torch.equal(weight, below[name])


def test_an_adapter_shares_the_base_models_weights(tiny_llama: Path) -> None:
    learner = learning(tiny_llama)
    held = {weight.data_ptr() for weight in learner.frozen.network.parameters()}
    below = [
        weight
        for name, weight in learner.network.named_parameters()
        if ".lora_" not in name
    ]
    assert below
    assert {weight.data_ptr() for weight in below} == held


@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_base_model_stays_as_it_is(tiny_llama: Path, tuning: Tuning) -> None:
    learner, untouched = learning(tiny_llama, tuning=tuning), loaded(tiny_llama)
    pairs = pairs_for(learner)
    some_steps(learner, 2, rate=3e-2)
    with torch.no_grad():
        exact = untouched.states(pairs)
        assert torch.equal(learner.frozen.states(pairs), exact)
        assert not torch.allclose(learner.states(pairs), exact, atol=1e-4)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("tuning", TUNINGS)
def test_passes_without_gradient_see_the_student_as_those_with_it(
    tiny_qwen3: Path, tuning: Tuning, compute: str
) -> None:
    learner = learning(tiny_qwen3, tuning=tuning, on={"compute": compute})
    pairs = pairs_for(learner)
    for _ in range(2):
        some_steps(learner, 1, rate=3e-2)
        with torch.no_grad():
            found = learner.states(pairs)
            teacher = learner.teacher(pairs).hidden  # takes the student's place
            again = learner.states(pairs)
            base = learner.frozen.states(pairs)
        through = learner.student(pairs).hidden.detach()
        assert torch.equal(found, again)
        near = (found - through).abs().max()
        # Neither the base nor the teacher would do.
        for other in (base, teacher):
            assert near < 0.01 * (other - through).abs().max()


# --- checkpoints ---


@pytest.mark.parametrize("tuning", TUNINGS)
def test_training_goes_on_from_a_checkpoint_bit_by_bit(
    tiny_qwen3: Path, tuning: Tuning
) -> None:
    straight, resumed = (learning(tiny_qwen3, tuning=tuning) for _ in range(2))
    config = config_of(tuning=tuning, learning_rate=3e-3, ema_rate=0.2)
    objective = NeuronOPSD(config)
    course = list(train(straight, examples(), objective, config))
    first = train(resumed, examples(), objective, config)
    for _ in range(3):
        next(first)
    saved = resumed.state()
    fresh = learning(tiny_qwen3, seed=9, tuning=tuning)
    fresh.load_state(saved)
    rest = list(train(fresh, examples(), objective, config, Earlier(3)))
    assert rest == course[3:]
    assert equal(fresh.state(), straight.state())


def test_a_checkpoint_holds_copies_of_student_teacher_and_optimiser(
    tiny_llama: Path,
) -> None:
    learner = learning(tiny_llama)
    some_steps(learner, 2)
    saved = learner.state()
    kinds = {name.split(".")[0] for name in saved}
    assert kinds == {"student", "teacher", "optimizer"}
    assert len(saved) == 5 * len(learner.weights)
    kept = copies(saved)
    some_steps(learner, 1)
    assert equal(saved, kept)
    assert not equal(saved, learner.state())


def test_going_back_to_the_beginning_forgets_what_the_optimiser_gathered(
    tiny_llama: Path,
) -> None:
    moved, fresh = learning(tiny_llama), learning(tiny_llama)
    beginning = moved.state()
    some_steps(moved, 3)
    gather(moved)
    moved.load_state(beginning)
    some_steps(moved, 2)
    some_steps(fresh, 2)
    assert equal(moved.state(), fresh.state())


# --- files ---


@plain_peft
def test_an_adapter_loads_in_plain_peft_with_equal_logits(
    folder: Path, tmp_path: Path
) -> None:
    learner = learning(folder)
    some_steps(learner, 3)
    learner.save_adapter(tmp_path / "adapter")
    adapted = PeftModel.from_pretrained(plain_network(folder), tmp_path / "adapter")
    ours = loaded(folder, tmp_path / "adapter")
    for prompt, completion in pairs_for(learner):
        ids = prompt + completion
        exact = plain_logits(learner.network, ids)
        for found in (plain_logits(adapted, ids), logits_of(ours, ids)):
            torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)
        assert (plain_logits(plain_network(folder), ids) - exact).abs().max() > 1e-3


def test_a_fully_tuned_model_is_saved_whole(folder: Path, tmp_path: Path) -> None:
    learner = learning(folder, tuning="full")
    some_steps(learner, 2)
    learner.save_adapter(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "adapter_config.json").exists()
    again = loaded(folder, tmp_path / "adapter").network
    for prompt, completion in pairs_for(learner):
        ids = prompt + completion
        exact = plain_logits(learner.network, ids)
        torch.testing.assert_close(plain_logits(again, ids), exact)


def test_saving_asks_no_hub(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> bool:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", refuse)
    learner = learning(tiny_llama)
    learner.trained.peft_config["default"].base_model_name_or_path = "some/model"
    learner.save_adapter(tmp_path / "adapter")
    saved = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "some/model"


SCRIPT: Final = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from neuron_opsd.config import DistillConfig, ModelConfig
from neuron_opsd.models.load import learner_of, load_model
config = ModelConfig(name=sys.argv[1], device="cpu", compute="float32")
learner = learner_of(load_model(config), DistillConfig(lora_rank=4), 3)
pairs = [((1, 2, 3), (4, 5))]
learner.student(pairs).hidden.square().sum().backward()
learner.step(1e-2)
learner.save_adapter(Path(sys.argv[2]))
"""


def test_an_adapter_is_the_same_bytes_in_every_process(
    tiny_llama: Path, tmp_path: Path
) -> None:
    source = str(places.SOURCES)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tiny_llama), str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": source},
            stderr=subprocess.DEVNULL,
        )
        for seed in ("1", "2")
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    first, second = tmp_path / "1", tmp_path / "2"
    names = sorted(path.name for path in first.iterdir())
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(names)
    assert names == sorted(path.name for path in second.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


# --- half precision and accelerators ---


@pytest.mark.parametrize("tuning", TUNINGS)
def test_distillation_runs_in_half_precision_with_masters_in_float32(
    folder: Path, tuning: Tuning
) -> None:
    full = learning(folder, tuning=tuning)
    half = learning(folder, on={"compute": "bfloat16"}, tuning=tuning)
    assert gather(half) == pytest.approx(gather(full), rel=0.1)
    a, b = (
        torch.cat([grad.flatten() for grad in gradients(learner).values()])
        for learner in (full, half)
    )
    assert b.dtype == torch.float32
    assert torch.cosine_similarity(a, b, dim=0) > 0.98
    half.step(1e-3)
    half.update_teacher(0.5)
    assert {w.dtype for w in half.state().values()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_accelerator_trains_as_the_processor(
    folder: Path, tmp_path: Path, tuning: Tuning
) -> None:
    here = learning(folder, tuning=tuning)
    there = learning(folder, on={"device": "cuda"}, tuning=tuning)
    assert gather(there) == pytest.approx(gather(here), rel=1e-3)
    for name, grad in gradients(there).items():
        exact = here.weights[name].grad
        assert exact is not None
        torch.testing.assert_close(grad.cpu(), exact, rtol=1e-2, atol=1e-4)
    there.step(1e-3)
    there.update_teacher(0.5)
    saved = there.state()
    again = learning(folder, seed=1, on={"device": "cuda"}, tuning=tuning)
    again.load_state(saved)
    assert equal(again.state(), saved)
    again.save_adapter(tmp_path / "adapter")
