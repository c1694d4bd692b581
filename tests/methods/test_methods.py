"""Every method on a task made for it, and what each draws, rewards and trains on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

from neuron_opsd.answers.reasoning import final_start
from neuron_opsd.comparison.variants import Variant, config_of
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import (
    METHODS,
    Oracle,
    Target,
    Targets,
    method_named,
    needs_contexts,
    needs_neurons,
)
from neuron_opsd.methods.distillation import OracleOPSD
from neuron_opsd.methods.reinforcement import TTRL
from neuron_opsd.models.decoding.choices import choice_logprobs
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.records import (
    Completion,
    Message,
    Prompt,
    Question,
    StepMetrics,
    TrainingExample,
)
from neuron_opsd.runs.resolution import with_method
from neuron_opsd.stages.policy_gradient import allowed, certainties
from neuron_opsd.stages.rollouts import scored_choices
from neuron_opsd.stages.sequences import completion_tokens, student_pairs
from neuron_opsd.stages.teaching import shown_text, with_solution
from neuron_opsd.stages.training import (
    Batch,
    RolloutGroup,
    TrainingSequence,
    all_sequences,
    gather_gradients,
    train,
)
from neuron_opsd.stages.training_rollouts import asked, draw, sequences_of, voted
from objectives import TwoFunctions

LABEL_FREE = [
    name for name, method in METHODS.items() if not issubclass(method, Oracle)
]
GROUPED = ("u-opsd", "lmsi", "ttrl", "intuitor", "rent", "empo")
CHOICES = ("yes", "no", "the other")

EXAMPLES = tuple(
    TrainingExample(
        question=Question(f"q{n}", (Message("user", f"Is {n} odd?"),), choices=CHOICES),
        student_prompt=Prompt(text=f"Question: Is {n} odd?\nAnswer:"),
        teacher_prompt=Prompt(
            text=f"Question: the cat?\nAnswer: yes\n\nQuestion: Is {n} odd?\nAnswer:"
        ),
        choices=CHOICES,
    )
    for n in range(10)
)
FREE = tuple(
    replace(
        example,
        question=replace(example.question, choices=()),
        choices=(),
    )
    for example in EXAMPLES
)


@pytest.fixture
def shared(tiny_llama_plain: Path) -> Config:
    return load_config(
        None,
        [
            f"model.name={tiny_llama_plain}",
            "model.compute=float32",
            "prompts.form=plain",
            "rollouts.max_new_tokens=6",
            "distill.batch_size=10",
            "distill.micro_batch_size=64",
            "distill.warmup_steps=0",
            "distill.learning_rate=0.01",
            "distill.lora_rank=4",
            "distill.num_samples=8",
        ],
    )


def settings_of(name: str, shared: Config, *assignments: str) -> Config:
    """Return a method's settings, some changed."""
    config = config_of(Variant(name, name), shared)
    changed = config.model_dump()
    for assignment in assignments:
        section, _, rest = assignment.partition(".")
        field, _, value = rest.partition("=")
        changed[section][field] = int(value) if value.isdigit() else value
    return Config.model_validate(changed)


def learner_for(config: Config) -> HFLearner:
    with warnings.catch_warnings():
        # PEFT asks transformers for what it calls by a new name now.
        warnings.simplefilter("ignore", FutureWarning)
        return learner_of(load_model(config.model), config.distill, config.seed)


def rollout_groups_of(
    name: str,
    config: Config,
    examples: Sequence[TrainingExample] = EXAMPLES,
    step: int = 0,
) -> list[RolloutGroup]:
    return METHODS[name](config).roll_out(learner_for(config), Batch(examples, step))


def trained(
    name: str,
    config: Config,
    examples: Sequence[TrainingExample] = EXAMPLES,
    told: Targets | None = None,
) -> tuple[HFLearner, list[StepMetrics]]:
    learner, method = learner_for(config), METHODS[name]
    if issubclass(method, Oracle):
        assert told is not None
        return learner, list(train(learner, examples, method(config, told), config))
    return learner, list(train(learner, examples, method(config), config))


def chances(learner: HFLearner, example: TrainingExample) -> dict[str, float]:
    """Return the probability of each choice at temperature 1."""
    (scores,) = scored_choices(learner, [asked(example)])
    logs = choice_logprobs(scores, 1.0)
    return dict(zip(example.choices, map(math.exp, logs), strict=True))


def favourites(learner: HFLearner) -> dict[str, str]:
    """Return the choice that each question is most likely answered with."""
    found = {}
    for example in EXAMPLES:
        odds = chances(learner, example)
        found[example.question_id] = max(odds, key=odds.__getitem__)
    return found


# --- the list ---


def test_every_method_has_a_name_a_source_and_settings_that_can_be(
    shared: Config,
) -> None:
    for name, method in METHODS.items():
        assert method.name == name
        assert method.summary
        assert method.source
        assert method.acts_on
        assert config_of(Variant(name, name), shared).method == name


def test_a_method_that_is_not_there_is_refused_with_the_names_of_those_that_are() -> (
    None
):
    with pytest.raises(
        ConfigError, match="there is no method 'grpo'; there are neuron-"
    ):
        method_named("grpo")


def test_a_run_takes_a_methods_settings_where_the_user_named_none() -> None:
    chosen = with_method(load_config(None, ["method=ttrl", "selection.rule=random"]))
    assert chosen.selection.rule == "random"
    assert chosen.contexts.num_demonstrations == 0
    assert chosen.distill.num_samples == 8
    assert with_method(load_config()) == load_config()


def test_a_run_refuses_an_oracle() -> None:
    with pytest.raises(ConfigError, match="oracle-grpo learns from gold answers"):
        with_method(load_config(None, ["method=oracle-grpo"]))


@pytest.mark.parametrize("name", ["ttrl", "intuitor", "rent", "empo"])
def test_a_group_of_one_is_refused(shared: Config, name: str) -> None:
    config = settings_of(name, shared, "distill.num_samples=1")
    with pytest.raises(ConfigError, match=r"distill\.num_samples is 1; set it to 2"):
        METHODS[name](config)


@pytest.mark.parametrize(
    ("settings", "contexts", "neurons"),
    [
        ((), True, True),
        (("contexts.rule=words",), True, True),
        (("contexts.rule=words", "selection.rule=all"), True, False),
        (("method=lmsi",), False, False),
        (("method=lmsi", "contexts.num_demonstrations=3"), False, True),
        (("method=lmsi", "selection.rule=fewest-neurons"), False, True),
        (
            (
                "method=lmsi",
                "contexts.num_demonstrations=3",
                "evaluation.prompted=false",
            ),
            False,
            False,
        ),
        (("method=ema-only",), False, True),
        (("method=form-only",), False, True),
    ],
)
def test_a_method_says_what_it_needs(
    settings: tuple[str, ...], *, contexts: bool, neurons: bool
) -> None:
    config = with_method(load_config(None, settings))
    assert needs_contexts(config) is contexts
    assert needs_neurons(config) is neurons


# --- what is drawn and trained on ---


@pytest.mark.parametrize("examples", [EXAMPLES, FREE], ids=["choices", "free"])
@pytest.mark.parametrize("name", LABEL_FREE)
def test_every_method_takes_a_step_on_choices_and_on_free_text(
    shared: Config, name: str, examples: Sequence[TrainingExample]
) -> None:
    if name == "form-only":
        examples = [replace(example, choices=CHOICES) for example in examples]
    config = settings_of(name, shared, "distill.steps=2")
    learner, metrics = trained(name, config, examples)
    assert [entry.step for entry in metrics] == [0, 1]
    moved = [
        not torch.equal(weight, learner.teacher_weights[key])
        for key, weight in learner.weights.items()
    ]
    # Free answers of a random model never agree, so no vote has a winner of two.
    if name not in ("empo", "lmsi", "u-opsd") or examples is EXAMPLES:
        assert any(moved)


@pytest.mark.parametrize("name", [n for n in LABEL_FREE if n != "form-only"])
def test_all_methods_draw_the_same_number_of_rollouts(
    shared: Config, name: str
) -> None:
    groups = rollout_groups_of(name, settings_of(name, shared))
    assert [len(group.drawn) for group in groups] == [8] * 10


@pytest.mark.parametrize("name", ["neuron-opsd", "ttrl", "intuitor"])
def test_equal_rollouts_are_trained_on_once_and_counted(
    shared: Config, name: str
) -> None:
    for group in rollout_groups_of(name, settings_of(name, shared)):
        ids = [e.completion.token_ids for e in group.sequences]
        assert len(set(ids)) == len(ids) <= 3
        assert sum(e.count for e in group.sequences) == 8
        for e in group.sequences:
            drawn = [c.token_ids for c in group.drawn]
            assert drawn.count(e.completion.token_ids) == e.count


def test_counting_equal_rollouts_changes_no_gradient(shared: Config) -> None:
    for name in ("neuron-opsd", "lmsi", "ttrl"):
        config = settings_of(name, shared)
        learner = learner_for(config)
        with torch.no_grad():
            for weight in learner.weights.values():
                weight.add_(0.05)
        objective = METHODS[name](config)
        counted = all_sequences(objective.roll_out(learner, Batch(EXAMPLES, 0)))
        single = [replace(e, count=1) for e in counted for _ in range(e.count)]
        assert len(single) > len(counted)
        losses, grads = [], []
        for sequences in (counted, single):
            tuning = config.distill
            losses.append(gather_gradients(learner, sequences, objective, tuning))
            rows = [
                w.grad.flatten() for w in learner.weights.values() if w.grad is not None
            ]
            grads.append(torch.cat(rows).clone())
            learner.optimizer.zero_grad()
        assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-7)
        torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-6)


def test_the_first_rollout_does_not_depend_on_how_many_are_drawn(
    shared: Config,
) -> None:
    learner = learner_for(shared)
    one, more = (draw(learner, Batch(FREE, 3), count, shared) for count in (1, 4))
    assert [group[0] for group in one] == [group[0] for group in more]
    assert all(len({c.token_ids for c in group}) > 1 for group in more)


def test_lmsi_imitates_what_agrees_and_nothing_else(shared: Config) -> None:
    for group in rollout_groups_of("lmsi", settings_of("lmsi", shared)):
        texts = [completion.text for completion in group.drawn]
        label = max(texts, key=texts.count)
        (only,) = group.sequences
        assert texts.count(only.completion.text) == texts.count(label) == only.count
        assert group.agreement == texts.count(label) / 8


def test_lmsi_is_written_by_the_frozen_model_however_far_the_student_is(
    shared: Config,
) -> None:
    config = settings_of("lmsi", shared)
    objective = METHODS["lmsi"](config)
    learner = learner_for(config)
    before = objective.roll_out(learner, Batch(EXAMPLES, 0))
    with torch.no_grad():
        for weight in learner.weights.values():
            weight.add_(1.0)
    learner.load_state(learner.state())
    assert objective.roll_out(learner, Batch(EXAMPLES, 0)) == before


def test_u_opsd_shows_what_agrees_and_trains_on_what_does_not(shared: Config) -> None:
    some_disagree = False
    for group in rollout_groups_of("u-opsd", settings_of("u-opsd", shared)):
        texts = [completion.text for completion in group.drawn]
        label = max(texts, key=texts.count)
        for e in group.sequences:
            some_disagree = True
            assert texts.count(e.completion.text) <= texts.count(label)
            shown = e.example.teacher_prompt.text
            question = e.example.student_prompt.text
            assert shown.startswith(question)
            assert shown.endswith(question)
            assert f"Answer: {e.completion.text}\n" not in shown
        trained_on = sum(e.count for e in group.sequences)
        assert trained_on == 8 - texts.count(label)
    assert some_disagree


def test_context_sft_imitates_answers_to_the_teachers_prompt(shared: Config) -> None:
    config = settings_of("context-sft", shared)
    learner = learner_for(config)
    with_context = draw(learner, Batch(EXAMPLES, 0), 8, config, with_context=True)
    without = draw(learner, Batch(EXAMPLES, 0), 8, config)
    assert with_context != without
    groups = METHODS["context-sft"](config).roll_out(learner, Batch(EXAMPLES, 0))
    assert [group.drawn for group in groups] == with_context


def test_context_sft_does_not_imitate_what_cannot_be_read(shared: Config) -> None:
    numbers = shared.answers.model_copy(update={"reader": "number"})
    config = settings_of("context-sft", shared.model_copy(update={"answers": numbers}))
    seen = {True: 0, False: 0}
    for group in rollout_groups_of("context-sft", config, FREE):
        trained_on = {e.completion.token_ids for e in group.sequences}
        for completion in group.drawn:
            readable = any(letter.isdecimal() for letter in completion.text)
            seen[completion.token_ids in trained_on] += 1
            assert readable or completion.token_ids not in trained_on
    assert seen[False] > 0


def test_intuitor_rewards_no_rollout_for_being_sure_without_an_answer(
    shared: Config,
) -> None:
    numbers = shared.answers.model_copy(update={"reader": "number"})
    config = settings_of("intuitor", shared.model_copy(update={"answers": numbers}))
    learner = learner_for(config)
    groups = voted(FREE, draw(learner, Batch(FREE, 0), 8, config), config)
    unread = [a is None for group in groups for a in group.answers]
    assert sum(unread) > 0
    made = rollout_groups_of("intuitor", config, FREE)
    for group, one in zip(groups, made, strict=True):
        gains = {s.completion.token_ids: s.advantage for s in one.sequences}
        for completion, answer in zip(group.completions, group.answers, strict=True):
            if answer is None:
                assert gains[completion.token_ids] == min(gains.values())


def test_more_rollouts_can_vote_than_are_trained_on(shared: Config) -> None:
    config = settings_of("ttrl", shared, "policy.num_votes=24")
    for group in rollout_groups_of("ttrl", config):
        assert len(group.drawn) == 24
        assert sum(e.count for e in group.sequences) == 8


# --- policy gradients ---


def test_the_distribution_that_counts_is_the_one_that_was_drawn_from(
    shared: Config,
) -> None:
    learner = learner_for(shared)
    for group, example in zip(
        draw(learner, Batch(EXAMPLES, 0), 4, shared), EXAMPLES, strict=True
    ):
        for completion in group:
            sequence = TrainingSequence(example, completion)
            rows = allowed(learner, sequence)
            readout = learner.student(student_pairs(learner, [sequence]))
            logits = (readout.hidden @ readout.weight.T).detach()
            targets = completion_tokens([sequence], readout.hidden)
            total = 0.0
            for row, tokens, target in zip(logits, rows, targets, strict=True):
                assert int(target) in tokens
                total += float(row[int(target)] - row[list(tokens)].logsumexp(0))
            assert total == pytest.approx(completion.logprob, abs=1e-4)


def test_free_answers_are_drawn_from_the_whole_vocabulary(shared: Config) -> None:
    learner = learner_for(shared)
    ((completion,),) = draw(learner, Batch(FREE[:1], 0), 1, shared)
    rows = allowed(learner, TrainingSequence(FREE[0], completion))
    assert rows == [()] * len(completion.token_ids)


def test_certainty_and_entropy_are_means_over_the_tokens_of_a_rollout(
    shared: Config,
) -> None:
    learner = learner_for(shared)
    groups = voted(FREE, draw(learner, Batch(FREE, 0), 2, shared), shared)
    found = certainties(learner, groups, shared.distill)
    for group, pairs in zip(groups, found, strict=True):
        for completion, (sure, spread) in zip(group.completions, pairs, strict=True):
            (sequence,) = sequences_of(group.example, [completion])
            readout = learner.student(student_pairs(learner, [sequence]))
            logs = (readout.hidden @ readout.weight.T).detach().double().log_softmax(-1)
            uniform = -(logs + math.log(logs.shape[-1])).mean(-1)
            own = -(logs.exp() * logs).sum(-1)
            assert sure == pytest.approx(float(uniform.mean()), rel=1e-4)
            assert spread == pytest.approx(float(own.mean()), rel=1e-4)


# --- each baseline moves as it must ---


def test_ttrl_as_its_authors_measure_it_where_the_majority_is_right_on_80_percent(
    shared: Config,
) -> None:
    config = settings_of("ttrl", shared, "distill.steps=25")
    learner = learner_for(config)
    truth = favourites(learner)
    for wrong in ("q3", "q8"):
        truth[wrong] = next(c for c in CHOICES if c != truth[wrong])
    objective = METHODS["ttrl"](config)
    # Many votes make the estimated label the model's favourite.
    groups = voted(EXAMPLES, draw(learner, Batch(EXAMPLES, 0), 400, config), config)
    labels = {g.example.question_id: g.vote.pseudo_label for g in groups}
    assert fmean(labels[name] == truth[name] for name in truth) == 0.8
    rewarded = [
        (
            (answer == labels[g.example.question_id]),
            answer == truth[g.example.question_id],
        )
        for g in groups
        for answer in g.answers
    ]
    reward_accuracy = fmean(reward == right for reward, right in rewarded)
    majority_ratio = fmean(g.vote.agreement for g in groups)
    # A reward is wrong only where the label is, and there only for the two answers
    # that label and truth name.
    assert 0.8 < reward_accuracy < 1.0
    metrics = list(train(learner, EXAMPLES, objective, config))
    assert metrics[0].agreement == pytest.approx(majority_ratio, abs=0.15)
    assert metrics[-1].agreement is not None
    assert metrics[-1].agreement > majority_ratio + 0.2
    after = favourites(learner)
    assert fmean(after[name] == truth[name] for name in truth) == pytest.approx(
        0.8, abs=0.1
    )


def test_the_reward_of_ttrl_is_the_share_that_agrees(shared: Config) -> None:
    for group in rollout_groups_of("ttrl", settings_of("ttrl", shared)):
        assert group.reward == group.agreement


@pytest.mark.parametrize("examples", [EXAMPLES, FREE], ids=["choices", "free"])
def test_self_certainty_rises_under_intuitor(
    shared: Config, examples: Sequence[TrainingExample]
) -> None:
    config = settings_of("intuitor", shared, "distill.steps=25")
    _, metrics = trained("intuitor", config, examples)
    rewards = [entry.reward for entry in metrics if entry.reward is not None]
    assert fmean(rewards[-5:]) > fmean(rewards[:5])


def test_entropy_falls_under_rent(shared: Config) -> None:
    config = settings_of("rent", shared, "distill.steps=25")
    _, metrics = trained("rent", config, FREE)
    rewards = [entry.reward for entry in metrics if entry.reward is not None]
    assert fmean(rewards[-5:]) > fmean(rewards[:5])


def test_answers_gather_under_empo(shared: Config) -> None:
    config = settings_of("empo", shared, "distill.steps=25")
    _, metrics = trained("empo", config)
    shares = [entry.agreement for entry in metrics if entry.agreement is not None]
    assert fmean(shares[-3:]) > fmean(shares[:3]) + 0.1


def test_the_loss_falls_under_lmsi(shared: Config) -> None:
    config = settings_of("lmsi", shared, "distill.steps=15")
    _, metrics = trained("lmsi", config)
    assert fmean(m.loss for m in metrics[-3:]) < 0.6 * metrics[0].loss


def told_answers() -> dict[str, Target]:
    return {
        e.question_id: Target(CHOICES[n % 3], CHOICES[n % 3])
        for n, e in enumerate(EXAMPLES)
    }


def test_oracles_learn_what_they_are_told(shared: Config) -> None:
    told = told_answers()
    for name, steps in (("oracle-grpo", 40), ("oracle-opsd", 2)):
        config = settings_of(name, shared, f"distill.steps={steps}")
        before = learner_for(config)
        learner, _ = trained(name, config, told=told)
        right = [
            chances(learner, e)[told[e.question_id].answer]
            - chances(before, e)[told[e.question_id].answer]
            for e in EXAMPLES
        ]
        if name == "oracle-grpo":
            assert fmean(right) > 0.05


def test_the_teacher_of_oracle_opsd_sees_the_answer(shared: Config) -> None:
    told = told_answers()
    config = settings_of("oracle-opsd", shared)
    objective = OracleOPSD(config, told)
    groups = objective.roll_out(learner_for(config), Batch(EXAMPLES, 0))
    for group in groups:
        for e in group.sequences:
            answer = told[e.example.question_id].written
            assert f"Answer: {answer}\n" in e.example.teacher_prompt.text


@pytest.mark.parametrize("name", ["lmsi", "u-opsd", "ttrl"])
def test_rollouts_that_only_vote_are_not_trained_on(shared: Config, name: str) -> None:
    config = settings_of(name, shared, "policy.num_votes=12", "distill.num_samples=4")
    counts = []
    for group in rollout_groups_of(name, config):
        assert len(group.drawn) == 12
        trained_on = [c.token_ids for c in group.drawn[:4]]
        for e in group.sequences:
            assert trained_on.count(e.completion.token_ids) == e.count
        counts.append(sum(e.count for e in group.sequences))
    assert 0 < max(counts) <= 4


def test_the_teacher_of_u_opsd_sees_the_reasoning_without_its_marks(
    shared: Config,
) -> None:
    config = settings_of("u-opsd", shared)
    assert config.contexts.content == "full"
    text = "<think>since\nit is</think>yes"
    thought = Completion((1,), text, True, 0.0, 0.0, final_start(text))  # noqa: FBT003
    shown = shown_text(thought, config)
    prompt = with_solution(learner_for(config), FREE[0], shown, config)
    assert "since it is yes" in prompt.text


def test_a_step_in_which_nothing_can_be_trained_on_changes_nothing(
    shared: Config,
) -> None:
    config = settings_of("lmsi", shared, "distill.steps=1")
    silent = Completion((1,), "", finished=True, logprob=0.0, entropy=0.0)
    learner = learner_for(config)
    objective = TwoFunctions(
        lambda *_: [RolloutGroup((), (silent,), agreement=0.0)],
        METHODS["lmsi"](config).loss,
    )
    before = learner.state()
    (entry,) = train(learner, EXAMPLES[:1], objective, config)
    assert (entry.loss, entry.grad_norm, entry.num_tokens) == (0.0, 0.0, 0)
    after = learner.state()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_summary_is_the_docstring_or_a_text_of_its_own() -> None:
    class Short(TTRL):
        """GRPO towards short answers."""

    class Long(TTRL):
        """Reinforces long answers."""

    class Named(TTRL):
        """Reinforces long answers."""

        summary = "its own words"

    assert Short.summary == "GRPO towards short answers"
    assert Long.summary == "reinforces long answers"
    assert Named.summary == "its own words"
