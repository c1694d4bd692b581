"""Estimate a run's cost from seconds of measurement: the `plan` command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from time import perf_counter

import torch

from neuron_opsd.config import FORM_ONLY, Config
from neuron_opsd.methods import METHODS, captures, method_of
from neuron_opsd.methods.method import PoolAnswers
from neuron_opsd.models.config_file import read_outline
from neuron_opsd.models.load import learner_of, load_model, load_tokenizer
from neuron_opsd.models.roles import LanguageModel, ModelFacts, Tokenizer
from neuron_opsd.models.room import ENGINE_CACHE
from neuron_opsd.planning import samples, step_trials, trials
from neuron_opsd.planning.costs import plan
from neuron_opsd.planning.fitting import Lengths, longest_step
from neuron_opsd.planning.memory import FLOAT, HALF
from neuron_opsd.planning.samples import Sample
from neuron_opsd.planning.step_trials import StepSize
from neuron_opsd.planning.trials import Answered, Trial, Written
from neuron_opsd.planning.workload import (
    Held,
    Plan,
    QuestionTokens,
    Rates,
    Work,
    Writing,
    expected_longest,
    num_saved,
)
from neuron_opsd.processes.memory import held_memory, peak_memory, total_memory
from neuron_opsd.progress import Progress
from neuron_opsd.records import Prompt, Question, TrainingExample
from neuron_opsd.runs.context import resolve_method
from neuron_opsd.runs.inputs import Inputs, read_inputs
from neuron_opsd.runs.model_checks import check_questions
from neuron_opsd.runs.resolution import for_model, with_method
from neuron_opsd.stages.rollouts import PromptedQuestion, ask
from neuron_opsd.stages.teaching import shown_text

NUM_SAMPLES = 3
"""Number of sample groups that progress reports."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Samples of the base model."""

    written: Written
    sample: Sample
    examples: tuple[TrainingExample, ...]
    """From all sampled questions."""
    trained: tuple[TrainingExample, ...]
    """From those that a run would select."""
    rates: Rates
    """Everything except training."""
    peak: int

    def answers(self, config: Config) -> PoolAnswers:
        """Return the sample's answers as input for methods' examples."""
        texts = [shown_text(c, config) for c in self.sample.completions]
        return PoolAnswers(lambda: {str(n): text for n, text in enumerate(texts)}, {})


def estimate(
    pool: str, tests: Mapping[str, str], config: Config, progress: Progress
) -> Plan:
    """Return tokens, time, memory and disk of every stage of a run."""
    config = with_method(config)
    inputs = read_inputs(pool, tests, config, progress.warn)
    tokenizer = load_tokenizer(config.model)
    own = for_model(config, tokenizer.facts)
    chooses = inputs.chooses
    resolved = resolve_method(own, tokenizer, inputs.pool, chooses=chooses)
    check_questions(tokenizer, inputs, resolved)
    before, start = held_memory("cpu"), perf_counter()
    model = load_model(config.model, tokenizer=tokenizer)
    loading = perf_counter() - start
    device = model.facts.device
    network = held_memory(device) - (0 if device.startswith("cuda") else before)
    trial = Trial(model, resolved, clock_of(device), captures(resolved))
    with progress.stage("measuring", NUM_SAMPLES, "samples") as done:
        found = try_base(trial, inputs, done)
        rates, peak = try_learner(trial, model, found, loading)
        done(1)
    work = count_work(model, inputs, resolved, found)
    held = Held(
        answering=found.peak,
        training=peak,
        network=network,
        between=held_memory(device),
        engine=engine_bytes(resolved, model.facts),
        sleeps=device.startswith("cuda") and resolved.engine.sleep,
        position=found.written.position,
        num_positions=found.written.num_positions,
    )
    return plan(work, rates, held, model.facts, resolved)


def engine_bytes(config: Config, facts: ModelFacts) -> int:
    """Return what vLLM holds if it writes answers.

    On a GPU its share of the memory; on a CPU a second base model, plus keys and
    values.
    """
    if facts.device.startswith("cuda"):
        return round(config.engine.memory_share * total_memory(facts.device))
    each = FLOAT if facts.compute == "float32" else HALF
    return each * facts.num_parameters + ENGINE_CACHE


def clock_of(device: str) -> Callable[[], float]:
    """Return a clock that waits for the device's pending work."""
    if not device.startswith("cuda"):
        return perf_counter

    def now() -> float:
        torch.cuda.synchronize(device)
        return perf_counter()

    return now


def try_base(trial: Trial, inputs: Inputs, done: Callable[[int], None]) -> Reading:
    """Sample everything a run asks of the base model."""
    pool = ask(inputs.pool, trial.config)
    others = ask([q for test in inputs.tests for q in test.questions], trial.config)
    answered: list[Answered] = []
    written = Written()
    if among := of_kind(pool, others, free=False):
        answered.append(trials.try_choices(trial, among))
    if free := of_kind(pool, others, free=True):
        one, written = trials.try_writing(trial, free)
        answered.append(one)
    reading = answered[0].seconds_per_token
    done(1)
    rest = written.rest(trial, trial.config.rollouts.max_new_tokens)
    sample = samples.make_sample(trial, pool, answered, rest)
    capture, neurons = samples.try_capture(trial, sample, reading)
    examples = samples.make_examples(trial, sample)
    showing = try_showing(trial, sample, examples, reading, written)
    kept = samples.selected(trial, sample, neurons)
    done(1)
    return Reading(
        written=written,
        sample=sample,
        examples=tuple(examples),
        trained=tuple(e for e in examples if e.question_id in kept),
        rates=Rates(reading, showing, capture, decoding=written.decoding),
        peak=peak_memory(trial.model.facts.device),
    )


def of_kind(
    pool: Sequence[PromptedQuestion], tests: Sequence[PromptedQuestion], *, free: bool
) -> list[PromptedQuestion]:
    """Return questions of one kind, from the pool if it has any, else the tests."""
    kinds = ([a for a in some if bool(a.written) != free] for some in (pool, tests))
    return next(filter(None, kinds), [])


def try_showing(
    trial: Trial,
    sample: Sample,
    examples: Sequence[TrainingExample],
    reading: float,
    written: Written,
) -> float:
    """Return the seconds per token of prompts with demonstrations."""
    if not trial.config.contexts.num_demonstrations:
        return reading
    asked, rollouts, seconds = samples.try_shown(trial, sample, examples, reading)
    free = {a.question.id for a in asked if not a.written}
    made = [rollout for rollout in rollouts if rollout.question_id in free]
    if made:
        steps, tokens = trials.decoded(made)
        decoding = written.decoding
        making = steps * decoding.step_seconds + tokens * decoding.token_seconds
        seconds = max(seconds - making, 0.05 * seconds)
    return seconds / trial.tokens(asked)


def try_learner(
    trial: Trial, model: LanguageModel, found: Reading, loading: float
) -> tuple[Rates, int]:
    """Sample training, and combine all rates.

    Returns:
        The rates, and the peak memory.
    """
    config, device = trial.config, trial.model.facts.device
    learner = learner_of(model, config.distill, config.seed)
    size = step_trials.size_of_step(trial, found.trained, found.rates)
    size = replace(
        size,
        rest=found.written.rest(trial, config.training_tokens),
        write_scale=write_scale(trial, found.written, size),
    )
    base, peak = held_memory(device), 0
    cut = replace(trial, config=trial.cut_config(trial.limit()))
    objective = method_of(cut.config)
    step_trials.warm_up(cut, learner, found.trained, objective, size)
    distil = step_trials.try_step(cut, learner, found.trained, objective, size)
    peak = scaled_peak(base, peak_memory(device), size, config)
    peak = max(peak, base + longest_step_bytes(trial, found))
    form = 0.0
    if config.evaluation.form_only:
        control = METHODS[FORM_ONLY](config)
        examples = control.examples(found.trained, found.answers(config))
        whole = replace(size, rest=0.0)
        form = step_trials.try_step(trial, learner, examples, control, whole)
    saving = 0.0
    if num_saved(config):
        saving, held = step_trials.try_saving(trial, learner)
        peak = max(peak, held)
    rates = replace(
        found.rates, distil_step=distil, form_step=form, saving=saving, loading=loading
    )
    return rates, peak


def longest_step_bytes(trial: Trial, found: Reading) -> int:
    """Return what the longest training micro-batch adds to memory.

    Samples have mean length, so the far longer maximum of free answers is computed.
    """
    config, model = trial.config, trial.model
    if not found.written.num_positions:
        return 0
    lengths = Lengths(
        prompt=max(len(model.encode(e.student_prompt)) for e in found.trained),
        shown=max(len(model.encode(e.teacher_prompt)) for e in found.trained),
        completion=config.training_tokens,
    )
    outline = read_outline(config.model)
    peak = longest_step(outline, lengths, config, model.facts.compute)
    return peak.total - peak.static.kept + peak.static.moments


def write_scale(trial: Trial, written: Written, size: StepSize) -> float:
    """Return how much longer uncut rollouts take."""
    longest, rows = trial.config.training_tokens, size.written
    mean = written.length(longest)
    cut = expected_longest(mean, rows, trial.limit())
    return expected_longest(mean, rows, longest) / cut


def scaled_peak(base: int, peak: int, size: StepSize, config: Config) -> int:
    """Scale the peak to a whole micro-batch."""
    whole = min(config.distill.micro_batch_size, config.distill.batch_size)
    if size.trained >= whole:
        return peak
    return round(base + max(0, peak - base) * whole / size.trained)


def count_work(
    model: Tokenizer, inputs: Inputs, config: Config, found: Reading
) -> Work:
    """Count a run's work."""

    def count(questions: Sequence[Question]) -> QuestionTokens:
        return trials.count_questions(model, ask(questions, config))

    def writing(longest: int) -> Writing:
        return Writing(found.written.length(longest), longest)

    def mean(prompts: Iterable[Prompt]) -> float:
        return fmean(len(model.encode(prompt)) for prompt in prompts)

    plain = mean(example.student_prompt for example in found.examples)
    shown = mean(example.teacher_prompt for example in found.examples)
    tests = [question for test in inputs.tests for question in test.questions]
    home = [q for test in inputs.tests if test.in_domain for q in test.questions]
    return Work(
        pool=count(inputs.pool),
        tests=count(tests),
        in_domain=count(home),
        written=writing(config.rollouts.max_new_tokens),
        trained=writing(config.training_tokens),
        tested=writing(config.test_tokens),
        trained_prompt=mean(example.student_prompt for example in found.trained),
        shown_tokens=shown - plain,
    )
