"""What a run would cost, from a few seconds of measurement: the `plan` command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuron_opsd.config import Config
from neuron_opsd.jobs.inputs import read_inputs
from neuron_opsd.jobs.setting import settle
from neuron_opsd.models.load import load_model
from neuron_opsd.models.protocol import LanguageModel, Sampling
from neuron_opsd.progress import Progress
from neuron_opsd.records import Question
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.world.measure import count_questions, measure
from neuron_opsd.world.plan import Plan, QuestionTokens, Work, plan

NUM_MEASURED = 16
MEASURED_TOKENS = 24


def estimate(
    pool: str, tests: Mapping[str, str], config: Config, progress: Progress
) -> Plan:
    """Return tokens, time, memory and disk of every stage of a run.

    Raises:
        NeuronOpsdError: For anything that the user can mend.
    """
    inputs = read_inputs(pool, tests, config)
    model = load_model(config.model)
    settled, constrained = settle(config, model.facts)
    asked = ask(inputs.pool, settled, constrained=constrained)
    step = max(1, len(asked) // NUM_MEASURED)
    prompts = [model.encode(a.prompt) for a in asked[::step][:NUM_MEASURED]]
    sampling = Sampling(
        temperature=settled.rollouts.temperature,
        top_p=settled.rollouts.top_p,
        max_new_tokens=min(MEASURED_TOKENS, settled.rollouts.max_new_tokens),
        stop_at_newline=settled.prompts.form == "plain",
    )
    with progress.stage("measuring", 1, "models") as done:
        found = measure(
            model, prompts, sampling, num_samples=settled.rollouts.num_samples
        )
        done(1)
    questions = [q for test in inputs.tests for q in test.questions]
    in_domain = [q for test in inputs.tests if test.in_domain for q in test.questions]
    length = min(found.completion_tokens, float(settled.rollouts.max_new_tokens))
    work = Work(
        pool=tokens_of(model, inputs.pool, settled, constrained=constrained),
        tests=tokens_of(model, questions, settled, constrained=constrained),
        completion_tokens=length,
        constrained=constrained,
        in_domain=tokens_of(model, in_domain, settled, constrained=constrained),
    )
    return plan(work, found.rates, model.facts, settled)


def tokens_of(
    model: LanguageModel,
    questions: Sequence[Question],
    config: Config,
    *,
    constrained: bool,
) -> QuestionTokens:
    """Count the tokens of some questions."""
    asked = ask(questions, config, constrained=constrained)
    return count_questions(model, [(a.prompt, a.written) for a in asked])
