"""What a probe costs at most, from a few seconds of timing: `probe --dry-run`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from neuron_opsd.config import Config
from neuron_opsd.config.tables import Settings, as_config
from neuron_opsd.known import NAMES
from neuron_opsd.method.contexts import CONTEXT_RULES
from neuron_opsd.method.contexts.search import Signal
from neuron_opsd.models.load import load_model
from neuron_opsd.planning import costs, workload
from neuron_opsd.planning.estimate import NUM_SAMPLES, clock_of, count_work, try_base
from neuron_opsd.planning.trials import Trial
from neuron_opsd.planning.workload import Cost, Plan, Rates, Work
from neuron_opsd.probing.answered import lent_by
from neuron_opsd.probing.request import (
    RANKED_PER_ASKED,
    Choices,
    ProbeRequest,
    Rules,
    check_request,
    place_for,
    read_library,
    request_of,
    resolved_for,
    rules_for,
    settings_for,
)
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.runs.inputs import Inputs
from neuron_opsd.stages.beliefs import MOST_TOKENS


def plan_probe(
    pool: str | Path,
    settings: Settings,
    progress: Progress = QUIET,
    **choices: Unpack[Choices],
) -> Plan:
    """Estimate tokens and time of a probe, at most; nothing is written.

    Takes what `probe` takes, except the folder.

    Raises:
        NeuronOpsdError: For anything that the user can fix.
    """
    request, config = request_of(pool, Path(), choices), as_config(settings)
    check_request(request)
    place = place_for(request)
    config = settings_for(request, config, place)
    library, _ = read_library(request, config, place, progress.warn)
    tokenizer, _, resolved = resolved_for(request, config, library)
    model = load_model(config.model, tokenizer=tokenizer)
    rules = rules_for(request.context_rules, request.selection_rules, model.facts)
    trial = Trial(model, resolved, clock_of(model.facts.device), bool(rules.reading))
    inputs = Inputs(library, (), {})
    with progress.stage("measuring", NUM_SAMPLES, "samples") as done:
        found = try_base(trial, inputs, done)
        done(1)
    work = count_work(model, inputs, resolved, found)
    asking = Asking(request, rules, work, found.rates, resolved)
    named = asking.costs(lent_by(place))
    stages = [one.stage(name, resolved) for name, one in named.items() if one.seconds]
    untimed = any(stage.seconds is None for stage in stages)
    return Plan(
        stages=tuple(stages),
        peak_memory_bytes=found.peak,
        disk_bytes=asking.disk(named),
        why_untimed=costs.WHY_UNTIMED if untimed else "",
    )


@dataclass(frozen=True, slots=True)
class Asking:
    """What a probe asks, and what samples of it took."""

    request: ProbeRequest
    rules: Rules
    work: Work
    rates: Rates
    config: Config

    def costs(self, lent: Collection[str]) -> dict[str, Cost]:
        """Return the most each stage costs; what a run lends is free."""
        work, rates, config = self.work, self.rates, self.config
        named: dict[str, Cost] = {}
        if "rollouts" not in lent:
            named["rollouts"] = costs.rollouts(work, rates, config)
        if "neurons" not in lent:
            needed = bool(self.rules.reading)
            read = costs.reading_off(work.pool, work.written, rates, needed=needed)
            named["neurons"] = read
        named |= self.signals(lent)
        asked = min(self.request.questions, work.pool.num_questions)
        ranked = min(RANKED_PER_ASKED * asked, work.pool.num_questions)
        named["student"] = self.listening(ranked, 0.0, 0)
        written, draws = self.request.write, self.request.draws
        teacher = self.listening(asked, work.shown_tokens, written)
        base = self.listening(ranked, work.shown_tokens, written)
        for rule in self.rules.contexts:
            first = base if rule == config.contexts.rule else teacher
            named[f"teachers, {rule}"] = sum([first] * draws, Cost())
        return named

    def signals(self, lent: Collection[str]) -> dict[str, Cost]:
        """Return the cost of reading all questions of the pool, by output."""
        read = {s for name in self.rules.contexts for s in CONTEXT_RULES[name].reads}
        rates = {
            Signal.QUESTION_NEURONS: self.rates.capture,
            Signal.HIDDEN_STATES: self.rates.reading,
        }
        tokens = self.work.pool.prompt_tokens
        return {
            NAMES[signal]: Cost(prefill=tokens, seconds=tokens * rate)
            for signal, rate in rates.items()
            if signal in read and NAMES[signal] not in lent
        }

    def listening(self, count: int, shown: float, num_written: int) -> Cost:
        """Return the cost of one teacher on `count` questions."""
        work, rates, config = self.work, self.rates, self.config
        some = workload.part_of(work.pool, count)
        among = replace(some, num_free=0)
        asked = costs.answering(among, rates, config, (1,), work.written, shown=shown)
        if not some.num_free:
            return asked
        if num_written:
            draws = (num_written,)
            written = costs.answering(
                some, rates, config, draws, work.written, shown=shown
            )
            return written + self.divergence(some.num_free, shown)
        length = self.prompt + shown + work.written.mean
        tokens = some.num_free * self.request.completions * length
        scored = Cost(prefill=tokens, seconds=tokens * rates.reading)
        return scored + self.divergence(some.num_free if shown else 0, shown)

    @property
    def prompt(self) -> float:
        """Mean tokens of a question."""
        return self.work.pool.prompt_tokens / max(1, self.work.pool.num_questions)

    def divergence(self, count: int, shown: float) -> Cost:
        """Return the cost of comparing vocabularies along a completion."""
        length = 2 * (self.prompt + min(MOST_TOKENS, self.work.written.mean)) + shown
        return Cost(prefill=count * length, seconds=count * length * self.rates.reading)

    def disk(self, named: dict[str, Cost]) -> int:
        """Return the bytes of answers and neurons."""
        made = named["rollouts"].decode if "rollouts" in named else 0.0
        return round(made * costs.BYTES_PER_TOKEN_STORED + costs.REPORT_BYTES)
