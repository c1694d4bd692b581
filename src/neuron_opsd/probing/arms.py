"""The teachers that a probe compares: each context rule, drawn or reordered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.method.contexts.search import Known
from neuron_opsd.models.roles import LanguageModel, Tokenizer
from neuron_opsd.pipeline import ANSWERS
from neuron_opsd.records import Prompt, Question, TeacherContext, TokenIds
from neuron_opsd.seeds import derive_seed, generator
from neuron_opsd.stages.probing import Heard, Probe, hear
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.stages.teaching import (
    DemonstrationPool,
    build_contexts,
    fitted_prompt,
)
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.codecs import CONTEXTS, records_codec

FOLDER: Final = "probe"
STUDENT: Final = "student"


@dataclass(frozen=True, slots=True)
class Listening:
    """What is needed to ask student and teachers."""

    work: Workspace
    model: LanguageModel
    questions: Mapping[str, Question]
    completions: Mapping[str, tuple[TokenIds, ...]]
    """The student's own to score; empty for questions with choices."""
    num_written: int = 0

    def hear(
        self, name: str, prompts: Mapping[str, Prompt], shown: str = ""
    ) -> dict[str, Heard]:
        """Return what is said under some prompts, by question id.

        `shown` is the output with any demonstrations.
        """
        work, ids = self.work, list(prompts)
        asked = ask([self.questions[i] for i in ids], work.config)
        probes = [
            Probe(a, prompts[i], self.completions.get(i, ()))
            for i, a in zip(ids, asked, strict=True)
        ]
        listen = partial(hear, config=work.config, num_written=self.num_written)
        found = work.by_question(
            f"{FOLDER}/{name}",
            records_codec(f"{FOLDER}/{name}.json", Heard),
            probes,
            work.task(self.model, listen),
            [*ANSWERS, *filter(None, [shown])],
            f"probe: {name}",
        )
        return {one.question_id: one for one in found}

    def student(self) -> dict[str, Heard]:
        """Return what the student says; it writes nothing new."""
        alone = replace(self, num_written=0)
        asked = ask(list(self.questions.values()), self.work.config)
        return alone.hear(STUDENT, {a.question.id: a.prompt for a in asked})


def contexts_name(rule: str, number: int) -> str:
    """Name the demonstrations of a rule's draw."""
    return f"{FOLDER}/{rule}-{number}.contexts"


@dataclass(frozen=True, slots=True)
class Arm:
    """What the teachers of one context rule say."""

    rule: str
    draws: tuple[Mapping[str, Heard], ...]
    """By question id, for each draw; one if the rule draws nothing."""
    others: tuple[Mapping[str, Heard], ...]
    """Compared to measure stability."""


def hear_arm(
    listening: Listening,
    rule: str,
    wanted: tuple[Known, Known],
    library: DemonstrationPool,
    num_draws: int,
) -> Arm:
    """Ask the teachers of one rule.

    A rule draws if another seed gives it other demonstrations. It then has several
    teachers; else its only one is asked again with them reordered.

    Args:
        listening: Whom to ask, and with what.
        rule: Its name.
        wanted: Questions to try it on, and those of them to measure stability on.
        library: Source of demonstrations.
        num_draws: For a rule that draws.
    """
    everyone, some = wanted
    find = partial(contexts_of, listening.work, rule, everyone, library=library)
    config, model = listening.work.config, listening.model
    draws = [find(0), find(1)]
    if draws[0] != draws[1]:
        draws += [find(number) for number in range(2, num_draws)]
    else:
        draws = draws[:1]
    heard = tuple(
        listening.hear(
            f"{rule}-{number}",
            prompts_of(model, draw, library, config),
            contexts_name(rule, number),
        )
        for number, draw in enumerate(draws)
    )
    if len(heard) > 1:
        return Arm(rule, heard, heard)
    ids = set(some.ids)
    turned = [reordered(c, config.seed) for c in draws[0] if c.question_id in ids]
    again = prompts_of(model, turned, library, config)
    other = listening.hear(f"{rule}-order", again, contexts_name(rule, 0))
    return Arm(rule, heard, (*heard, other))


def contexts_of(
    work: Workspace,
    rule: str,
    questions: Known,
    number: int,
    library: DemonstrationPool,
) -> Sequence[TeacherContext]:
    """Return the demonstrations of a draw, the first being a run's."""
    config = work.config
    if number:
        seed = derive_seed(config.seed, "probe", str(number))
        config = config.model_copy(update={"seed": seed})
    name = contexts_name(rule, number)
    return work.cache.once(
        name,
        CONTEXTS.named(name),
        lambda: build_contexts(questions, library, config, rule=rule),
        made_from=[*ANSWERS, "neurons"],
    )


def reordered(context: TeacherContext, seed: int) -> TeacherContext:
    """Put a question's demonstrations in a random other order.

    Two or more always change.
    """
    shown = context.demonstrations
    rng = generator(seed, "probe", "order", context.question_id)
    turned = tuple(shown[i] for i in rng.permutation(len(shown)))
    return replace(context, demonstrations=turned if turned != shown else shown[::-1])


def prompts_of(
    model: Tokenizer,
    contexts: Sequence[TeacherContext],
    library: DemonstrationPool,
    config: Config,
) -> dict[str, Prompt]:
    """Return the teachers' prompts by question id."""
    return {
        one.question_id: fitted_prompt(
            model, library.questions[one.question_id], one, library, config
        )[0]
        for one in contexts
    }
