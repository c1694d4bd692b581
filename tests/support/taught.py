"""A tiny model that knows something, and trainings of it that go well or wrong.

It answers sixteen questions, each as its word asks, three times in four rightly: sure
enough to lose something, unsure enough to be made surer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.methods import METHODS
from neuron_opsd.methods.method import PoolAnswers
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.models.roles import Learner
from neuron_opsd.processes.ranks import ALONE
from neuron_opsd.prompts import student_prompt, teacher_prompt
from neuron_opsd.records import (
    Completion,
    Message,
    Question,
    StepMetrics,
    TrainingExample,
)
from neuron_opsd.stages.looking import guard_questions, with_looks
from neuron_opsd.stages.rollouts import written
from neuron_opsd.stages.training import (
    Batch,
    Objective,
    RolloutGroup,
    RolloutGroups,
    TrainingSequence,
    train,
)
from objectives import Imitating
from tiny import tiny_model

WORDS: Final = (
    *("cat", "dog", "mat", "gas", "sum", "air", "plants", "carbon"),
    *("north", "south", "east", "west", "step", "three", "two", "answer"),
)
ANSWERS: Final = ("yes", "no")
LONG_CHOICES: Final = (*ANSWERS, "true", "false", "the cat sat on the mat " * 5)
RIGHT: Final = 3
"""Times of four that the model is taught the right answer."""

SETTINGS: Final = (
    "model.compute=float32",
    "model.device=cpu",
    "prompts.form=plain",
    "rollouts.max_new_tokens=24",
    "contexts.num_demonstrations=2",
    "distill.batch_size=8",
    "distill.num_samples=8",
    "distill.warmup_steps=0",
    "distill.lora_rank=4",
    "guard.num_questions=16",
    "guard.num_samples=8",
    "guard.every=5",
)
SCHOOL: Final = ("distill.tuning=full", "distill.steps=80", "distill.batch_size=16")


def settings(model: Path, *more: str, mode: str = "free") -> Config:
    """Return settings of a training; `mode` is that of the rollouts."""
    return load_config(
        None, [f"model.name={model}", f"rollouts.mode={mode}", *SETTINGS, *more]
    )


def examples(
    config: Config, choices: Sequence[str] = ANSWERS
) -> tuple[TrainingExample, ...]:
    """Return the questions; the teacher is shown the right answer to another one."""
    found = []
    for place, word in enumerate(WORDS):
        question = asked(place, choices)
        other = (place + 2) % len(WORDS)
        shown = [(asked(other, choices), ANSWERS[other % 2])]
        found.append(
            TrainingExample(
                question,
                student_prompt(question, config.prompts),
                teacher_prompt(question, shown, config.prompts),
                written(question, config),
            )
        )
        assert word in question.text
    return tuple(found)


def asked(place: int, choices: Sequence[str]) -> Question:
    """Return a question."""
    text = f"Is {WORDS[place]} one?"
    return Question(f"q{place}", (Message("user", text),), tuple(choices))


def taught_model(folder: Path) -> Path:
    """Write a model that was taught the answers, by the loop that is under test."""
    start = tiny_model(folder / "start", chat=False)
    config = settings(start, "distill.learning_rate=0.005", *SCHOOL)

    def lesson(learner: Learner, batch: Batch) -> RolloutGroups:
        groups = []
        for example in batch.examples:
            right = int(example.question_id[1:]) % 2
            texts = ANSWERS[right], ANSWERS[1 - right]
            pairs = zip(texts, (RIGHT, 4 - RIGHT), strict=True)
            groups.append(
                RolloutGroup(
                    tuple(
                        TrainingSequence(example, said(learner, example, text), count)
                        for text, count in pairs
                    )
                )
            )
        return groups

    with warnings.catch_warnings():
        # PEFT asks transformers for what it calls by a new name now.
        warnings.simplefilter("ignore", FutureWarning)
        learner = learner_of(load_model(config.model), config.distill, config.seed)
        list(train(learner, examples(config), Imitating(config, lesson), config))
        learner.save_adapter(folder / "taught")
    return folder / "taught"


def said(
    learner: Learner, example: TrainingExample, text: str, *, finished: bool = True
) -> Completion:
    """Return a completion that says some text."""
    ids = learner.encode_answer(example.student_prompt, text)
    return Completion(ids if finished else ids[:-1], text, finished, 0.0, 0.0)


@dataclass(frozen=True)
class Saying:
    """An objective that imitates one and the same text, whatever is asked."""

    text: str
    finished: bool = True

    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return that text for each example."""
        return [
            RolloutGroup(
                (
                    TrainingSequence(
                        e, said(learner, e, self.text, finished=self.finished)
                    ),
                )
            )
            for e in batch.examples
        ]


@dataclass(frozen=True)
class Told:
    """An objective that imitates the answers that it is told, by question id."""

    answers: Mapping[str, str]

    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return its answer to each example."""
        return [
            RolloutGroup(
                (TrainingSequence(e, said(learner, e, self.answers[e.question_id])),)
            )
            for e in batch.examples
        ]


RIGHT_ONES: Final = {f"q{n}": ANSWERS[n % 2] for n in range(len(WORDS))}
WRONG_ONES: Final = {f"q{n}": ANSWERS[1 - n % 2] for n in range(len(WORDS))}


def trained(
    config: Config,
    objective: Callable[[Config], Objective] | str,
    choices: Sequence[str] = ANSWERS,
) -> list[StepMetrics]:
    """Train with the guard looking, and return what the steps measured.

    The objective is made from the settings, or is a method by its name.
    """
    with warnings.catch_warnings():
        # PEFT asks transformers for what it calls by a new name now.
        warnings.simplefilter("ignore", FutureWarning)
        learner = learner_of(load_model(config.model), config.distill, config.seed)
    shown: Sequence[TrainingExample] = examples(config, choices)
    pool = {one.question_id: one.question for one in shown}
    if isinstance(objective, str):
        method = METHODS[objective](config)
        own = PoolAnswers(lambda: dict(zip(pool, 8 * ANSWERS, strict=True)), {})
        made: Objective = method
        shown = method.examples(shown, own)
    else:
        made = objective(config)
    guarded = guard_questions(pool, set(pool), config)
    return list(
        with_looks(train(learner, shown, made, config), learner, guarded, config, ALONE)
    )
