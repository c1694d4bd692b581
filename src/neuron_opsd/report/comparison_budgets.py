"""What training each method took, and whether all were given the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from neuron_opsd.report.comparison_data import BudgetLine, ComparisonData
from neuron_opsd.report.comparison_index import method_label, ordered_starts
from neuron_opsd.report.comparison_tables import Cell, Group, Row, Table
from neuron_opsd.report.wording import duration, number, one_line

COLUMNS = ("prompts", "generated tokens", "trained tokens", "time")
SAME = 1e-9


def budget_table(data: ComparisonData) -> Table:
    """Return what every method took, as the mean over sources."""
    groups = []
    for start in ordered_starts(data):
        rows = []
        for line in data.methods:
            spent = [
                budget
                for budget in data.budgets
                if (budget.start, budget.method) == (start, line.name)
            ]
            if spent:
                rows.append(Row(method_label(line), mean_cells(spent)))
        groups.append(Group(start_words(start), tuple(rows)))
    return Table(
        title="Budgets, mean over sources and seeds",
        corner="method",
        columns=COLUMNS,
        groups=tuple(group for group in groups if group.rows),
    )


def source_budgets(data: ComparisonData) -> Table:
    """Return what every method took on every source."""
    names = {line.name: method_label(line) for line in data.methods}
    groups = []
    for start in ordered_starts(data):
        for source in data.sources:
            rows = tuple(
                Row(names.get(budget.method, budget.method), mean_cells([budget]))
                for budget in data.budgets
                if (budget.start, budget.source) == (start, source)
            )
            groups.append(Group(f"{source}, {start_words(start)}", rows))
    return Table(
        title="Budgets on every source",
        corner="method",
        columns=COLUMNS,
        groups=tuple(group for group in groups if group.rows),
    )


def start_words(start: str) -> str:
    """Say where training began."""
    return f"training began from {start}"


def mean_cells(budgets: Sequence[BudgetLine]) -> tuple[Cell, ...]:
    """Write the means of some budgets."""
    size = len(budgets)
    counts = [
        sum(amount(budget) for budget in budgets) / size
        for amount in (prompts, generated_tokens, trained_tokens)
    ]
    seconds = sum(budget.seconds for budget in budgets) / size
    return (*(Cell(number(count, 0)) for count in counts), Cell(duration(seconds)))


def prompts(budget: BudgetLine) -> float:
    """Return the questions asked."""
    return budget.prompts


def generated_tokens(budget: BudgetLine) -> float:
    """Return the tokens drawn."""
    return budget.generated_tokens


def trained_tokens(budget: BudgetLine) -> float:
    """Return the tokens that a loss was taken over."""
    return budget.trained_tokens


def equality(data: ComparisonData) -> list[str]:
    """Say whether all methods had the same prompts and generated tokens."""
    return [
        equality_sentence(data, "Prompts", prompts),
        equality_sentence(data, "Generated tokens", generated_tokens),
    ]


def equality_sentence(
    data: ComparisonData, noun: str, amount: Callable[[BudgetLine], float]
) -> str:
    """Say whether methods of one start and source had as much; if not, how far apart.

    Args:
        data: Holds the budgets.
        noun: What is counted, in the plural.
        amount: Returns it.
    """
    together: dict[tuple[str, str], list[BudgetLine]] = defaultdict(list)
    for budget in data.budgets:
        together[budget.start, budget.source].append(budget)
    ends = [
        (min(budgets, key=amount), max(budgets, key=amount))
        for budgets in together.values()
        if len(budgets) > 1
    ]
    if not ends:
        return (
            f"{noun} of different methods cannot be compared: fewer than two trained."
        )
    names = {line.name: method_label(line) for line in data.methods}
    least, most = max(ends, key=lambda pair: amount(pair[1]) - amount(pair[0]))
    if amount(most) - amount(least) <= SAME * amount(most):
        return f"{noun} are equal for all methods."
    low, high = (
        f"{number(amount(end), 0)} ({names.get(end.method, end.method)})"
        for end in (least, most)
    )
    source = one_line(most.source, 40)
    return f"{noun} are not equal: on {source} from {low} to {high}."
