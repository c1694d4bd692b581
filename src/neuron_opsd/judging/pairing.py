"""Two files of samples on the questions that both answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuron_opsd.config import Config
from neuron_opsd.judging.scoring import Scored, known
from neuron_opsd.method.calibration import METRICS, columns_of, measure
from neuron_opsd.method.resampling import resampled_difference
from neuron_opsd.method.statistics import bootstrap_p_values, mcnemar
from neuron_opsd.records.scores import QuestionScore
from neuron_opsd.results.judging import Paired
from neuron_opsd.seeds import generator


@dataclass(frozen=True, slots=True)
class Named:
    """A scored file by its name."""

    name: str
    found: Scored

    @property
    def by_id(self) -> Mapping[str, QuestionScore]:
        """Question id to score."""
        return {one.question_id: one for one in self.found.scores}


def paired(first: Named, second: Named, test: str, config: Config) -> Paired | None:
    """Compare two files on the questions of both; `None` where there is none."""
    one, other = first.by_id, second.by_id
    common = [name for name in one if name in other]
    if not common:
        return None
    before, after = [one[name] for name in common], [other[name] for name in common]
    num_bins, settings = config.evaluation.num_bins, config.evaluation
    drawn = resampled_difference(
        measure,
        columns_of(before, num_bins),
        columns_of(after, num_bins),
        len(common),
        settings.num_resamples,
        generator(config.seed, "bootstrap", test),
    )
    unknown = first.found.unknown | second.found.unknown
    change = known(dict(zip(METRICS, drawn.intervals(), strict=True)), unknown)
    p_values = zip(METRICS, bootstrap_p_values(drawn.values, drawn.draws), strict=True)
    only_first, only_second = discordant(before, after)
    return Paired(
        first.name,
        second.name,
        len(common),
        (len(one) - len(common), len(other) - len(common)),
        change,
        {name: p_value for name, p_value in p_values if name in change},
        only_first,
        only_second,
        mcnemar(only_first, only_second),
    )


def discordant(
    before: Sequence[QuestionScore], after: Sequence[QuestionScore]
) -> tuple[int, int]:
    """Return how many questions only the vote of one of the two answers right."""
    pairs = [
        (one.majority_correct, other.majority_correct)
        for one, other in zip(before, after, strict=True)
    ]
    return pairs.count((True, False)), pairs.count((False, True))
