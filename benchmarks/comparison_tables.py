"""Print the tables of a finished comparison as Markdown, for the lab notebook.

    python benchmarks/comparison_tables.py runs/comparison

One table per start and source, one for the mean over sources, one along the steps where
models were tested on the way, and one of our variants against the rival methods.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from neuron_opsd.comparison.compare import DATA
from neuron_opsd.report.comparison_index import Results, ordered_starts, results_from
from neuron_opsd.report.measures import in_words
from neuron_opsd.report.wording import MINUS
from neuron_opsd.results.comparison import (
    ALL_SOURCES,
    BASE,
    CROSS_DOMAIN,
    FORM,
    IN_DOMAIN,
    BudgetLine,
    Contrast,
    Place,
)

HEADINGS = (
    "Avg@8",
    "by seed",
    "against base",
    "net of form only",
    "Maj@8",
    "ECE",
    "ECE against base",
    "other sets against base",
    "other sets net of form only",
    "drawn",
    "trained on",
    "s",
)
ACCURACY, ECE = "avg_at_k", "ece"


def main() -> None:
    """Print every table of a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparison", type=Path)
    folder = parser.parse_args().comparison
    data = DATA.load(folder / DATA.file_name)
    for start in ordered_starts(data):
        results = results_from(data, start)
        for source in results.sources:
            print_table(first_heading(source, start), HEADINGS, rows(results, source))
        for source in data.sources if len(data.steps) > 1 else ():
            steps = [f"{step} steps" for step in data.steps]
            heading = f"{first_heading(source, start)}: Avg@8 / ECE"
            print_table(heading, steps, along_steps(results, source))
        for source in results.sources:
            heading = f"{first_heading(source, start)}: ours less"
            print_table(heading, ("Avg@8", "ECE"), rivals(results, source))


def first_heading(source: str, start: str) -> str:
    """Return what models were trained on, and from where."""
    trained = "mean over sources" if source == ALL_SOURCES else f"trained on {source}"
    return trained if start == BASE else f"{trained} from {start}"


def rows(results: Results, source: str) -> Iterator[list[str]]:
    """Yield a row for every model."""
    budgets = {
        line.method: line
        for line in results.data.budgets
        if line.source == source
        and line.start == (BASE if line.method == FORM else results.start)
    }
    for line in results.data.methods:
        place = (source, line.name, IN_DOMAIN, ACCURACY)
        found = results.measurement(*place)
        if found is None:
            continue
        others = (source, line.name, CROSS_DOMAIN, ACCURACY)
        calibration = (source, line.name, IN_DOMAIN, ECE)
        yield [
            line.name,
            percent(found.value),
            " ".join(map(percent, found.by_seed)),
            difference(results.contrast(place, BASE)),
            difference(results.contrast(place, FORM)),
            value_of(results, (source, line.name, IN_DOMAIN, "maj_at_k")),
            value_of(results, calibration),
            difference(results.contrast(calibration, BASE)),
            difference(results.contrast(others, BASE)),
            difference(results.contrast(others, FORM)),
            *spent(budgets.get(line.name)),
        ]


def value_of(results: Results, place: tuple[str, str, str, str]) -> str:
    """Write a measure, if there is one: a share in per cent, an ECE as it is."""
    found = results.measurement(*place)
    if found is None:
        return ""
    return f"{found.value:.3f}" if place[-1] == ECE else percent(found.value)


def along_steps(results: Results, source: str) -> Iterator[list[str]]:
    """Yield a row for every trained model, a column for each number of steps."""
    for line in results.trained:
        places = [
            Place(results.start, source, line.name, step, IN_DOMAIN, ACCURACY)
            for step in results.data.steps
        ]
        yield [line.name, *(accuracy_and_ece(results, place) for place in places)]


def accuracy_and_ece(results: Results, place: Place) -> str:
    """Write both measures of a model, if it was measured."""
    accuracy = results.measurement_at(place)
    ece = results.measurement_at(replace(place, metric=ECE))
    if accuracy is None or ece is None:
        return ""
    return f"{percent(accuracy.value)} / {ece.value:.3f}"


def rivals(results: Results, source: str) -> Iterator[list[str]]:
    """Yield what each of our methods is above each other, in its own domain."""
    for own in results.ours:
        for other in results.trained:
            place = (source, own.name, IN_DOMAIN)
            accuracy = results.contrast((*place, ACCURACY), other.name)
            ece = results.contrast((*place, ECE), other.name)
            if other.name != FORM and accuracy is not None:
                yield [
                    f"{own.name} less {other.name}",
                    difference(accuracy),
                    difference(ece),
                ]


def spent(line: BudgetLine | None) -> list[str]:
    """Write what training took."""
    if line is None:
        return ["", "", ""]
    numbers = (line.generated_tokens, line.trained_tokens, line.seconds)
    return [f"{number:,.0f}" for number in numbers]


def percent(share: float) -> str:
    """Write a share in per cent."""
    return f"{100 * share:.1f}"


def difference(contrast: Contrast | None) -> str:
    """Write a difference with its interval, in the unit of its measure."""
    if contrast is None:
        return ""
    said = in_words(contrast.difference, contrast.place.metric)
    return said.replace(MINUS, "-")


def print_table(
    first: str, headings: Iterable[str], body: Iterable[Iterable[str]]
) -> None:
    """Print one Markdown table."""
    columns = [first, *headings]
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in body:
        print("| " + " | ".join(row) + " |")
    print()


if __name__ == "__main__":
    main()
