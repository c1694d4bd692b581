"""Look up rows of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from neuron_opsd.report.wording import finite, one_line
from neuron_opsd.results import comparison
from neuron_opsd.results.run import OURS

ORACLE_MARK = "\N{DAGGER}"
"""Marks methods that saw gold answers."""
LONGEST_NAME = 40

UNTRAINED = comparison.MethodLine(
    comparison.BASE, "the model before any training", trained=False
)


@dataclass(frozen=True, slots=True)
class Results:
    """Rows of all models trained from one start.

    Where a start lacks rows of untrained or form-only methods, those of the start
    `BASE` are used.
    """

    data: comparison.ComparisonData
    start: str
    measured: Mapping[comparison.Place, comparison.Measurement]
    compared: Mapping[tuple[comparison.Place, str], comparison.Contrast]
    """By place and reference."""

    def measurement(
        self, source: str, method: str, target: str, metric: str
    ) -> comparison.Measurement | None:
        """Return a measure after the last step, or `None`."""
        return self.measurement_at(self.last_place(source, method, target, metric))

    def measurement_at(self, place: comparison.Place) -> comparison.Measurement | None:
        """Return a measure after any step, or `None`."""
        found = self.measured.get(place)
        if found is None and self.stands_for_all(place.method):
            return self.measured.get(replace(place, start=comparison.BASE))
        return found

    def contrast(
        self, place: tuple[str, str, str, str], reference: str
    ) -> comparison.Contrast | None:
        """Return a finite difference by source, method, target, metric, or `None`."""
        here = self.last_place(*place)
        found = self.compared.get((here, reference))
        if found is None and self.stands_for_all(here.method):
            found = self.compared.get((replace(here, start=comparison.BASE), reference))
        return found if found is not None and finite(found.difference) else None

    def stands_for_all(self, method: str) -> bool:
        """Say whether a method may use rows of the start `BASE`."""
        return method == comparison.FORM or method in untrained_names(self.data)

    def last_place(
        self, source: str, method: str, target: str, metric: str
    ) -> comparison.Place:
        """Return the place of a method's result, after its last step."""
        trained = method not in untrained_names(self.data)
        step = self.data.steps[-1] if trained and self.data.steps else 0
        return comparison.Place(self.start, source, method, step, target, metric)

    @property
    def sources(self) -> tuple[str, ...]:
        """The mean over sources if there are several, then each source."""
        several = len(self.data.sources) > 1
        return ((comparison.ALL_SOURCES,) if several else ()) + self.data.sources

    @property
    def widest(self) -> str:
        """The mean over all sources, or the only one."""
        return self.sources[0] if self.sources else comparison.ALL_SOURCES

    @property
    def trained(self) -> tuple[comparison.MethodLine, ...]:
        """Trained methods with results from this start."""
        known = {place.method for place in self.measured if place.start == self.start}
        return tuple(
            line
            for line in self.data.methods
            if line.trained and (line.name in known or line.name == comparison.FORM)
        )

    @property
    def lines(self) -> tuple[comparison.MethodLine, ...]:
        """All methods but the base model, untrained ones first."""
        untrained = (line for line in self.data.methods if not line.trained)
        others = (line for line in untrained if line.name != comparison.BASE)
        return (*others, *self.trained)

    @property
    def ours(self) -> tuple[comparison.MethodLine, ...]:
        """Our own trained methods."""
        return tuple(filter(is_ours, self.trained))


def results_from(data: comparison.ComparisonData, start: str) -> Results:
    """Index a comparison's rows for one start."""
    return Results(
        data=data,
        start=start,
        measured={row.place: row for row in data.measurements},
        compared={(row.place, row.reference): row for row in data.contrasts},
    )


def untrained_names(data: comparison.ComparisonData) -> frozenset[str]:
    """Name the untrained methods, always including the base model."""
    return frozenset(
        {comparison.BASE, *(line.name for line in data.methods if not line.trained)}
    )


def ordered_starts(data: comparison.ComparisonData) -> tuple[str, ...]:
    """Return the starts of training, the base model first."""
    return tuple(sorted(data.starts, key=lambda start: start != comparison.BASE))


def is_ours(line: comparison.MethodLine) -> bool:
    """Say whether a method is ours, by its name's prefix."""
    return line.name.startswith(OURS)


def method_label(line: comparison.MethodLine, limit: int = LONGEST_NAME) -> str:
    """Return a method's name, marked if it saw gold answers."""
    if line.oracle:
        return f"{one_line(line.name, limit - 2)} {ORACLE_MARK}"
    return one_line(line.name, limit)
