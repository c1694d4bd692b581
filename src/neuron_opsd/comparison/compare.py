"""Compare many runs: train, measure, write, render."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from itertools import product
from pathlib import Path
from statistics import fmean

import pyarrow as pa

from neuron_opsd.answers.verifier import shared_verifier
from neuron_opsd.comparison import spreading, tables, variants
from neuron_opsd.comparison.comparison import (
    Comparison,
    ComparisonContext,
    cells_of,
    is_comparison,
    set_up,
)
from neuron_opsd.comparison.contrasting import baseline_contrasts, contrasts
from neuron_opsd.comparison.grid import Outcome, fill
from neuron_opsd.comparison.measuring import Arm, Frame, Tested, measurements
from neuron_opsd.comparison.run_group import Spent
from neuron_opsd.config import Config
from neuron_opsd.config.tables import changed_settings, toml_values
from neuron_opsd.errors import DataError
from neuron_opsd.progress import Progress
from neuron_opsd.report.comparison_page import render_comparison
from neuron_opsd.results.comparison import (
    FORM,
    BudgetLine,
    ComparisonData,
    Failure,
)
from neuron_opsd.results.run import OURS, least_of
from neuron_opsd.runs.elsewhere import ClusterMachines, machines_for
from neuron_opsd.runs.reporting import model_summary, rebuild_report
from neuron_opsd.storage import integrity, score_rows
from neuron_opsd.storage.codecs import encode, record_codec, save_json
from neuron_opsd.storage.files import write_atomic
from neuron_opsd.storage.folders import BLOCKS, check_folder, claim, require_folder
from neuron_opsd.storage.folders import COMPARISON_PAGE as PAGE
from neuron_opsd.storage.manifest import installed_versions

DATA = record_codec("comparison.json", ComparisonData)
RESULTS = "results.json"

SCORE_ROWS = 65_536
"""Rows per block; large ones compress well, as every model has the same questions."""

SCORE_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("start", "source", "method")),
        *((name, pa.int64()) for name in ("seed", "steps")),
        *score_rows.SCORE_FIELDS,
    ]
)


def compare(
    comparison: Comparison, config: Config, progress: Progress
) -> ComparisonData:
    """Train methods on sources with seeds, and measure each model everywhere."""
    check_folder(comparison.out, "comparison", is_comparison)
    shared_verifier().forget()
    with machines_for(config, progress) as machines:
        context = set_up(comparison, config, progress, machines)
        claim(comparison.out, "comparison", is_comparison)
        if isinstance(machines, ClusterMachines):
            outcome = spreading.fill(context, machines)
        else:
            outcome = fill(context)
    data = build_comparison(context, outcome)
    write_comparison(data, outcome, comparison.out)
    return data


def rebuild_page(folder: Path, progress: Progress) -> Path:
    """Rewrite the page of a run or a comparison from its folder."""
    if (folder / BLOCKS).is_dir():
        return rebuild_comparison(folder, progress.warn)
    return rebuild_report(folder, progress.warn)


def build_comparison(context: ComparisonContext, outcome: Outcome) -> ComparisonData:
    """Gather what the page and the files say."""
    comparison, config = context.comparison, context.config
    sources = tuple(comparison.sources)
    targets = (*sources, *(t for t in comparison.tests if t not in sources))
    tested = list(all_tested(outcome))
    frame = Frame(sources, targets, config.evaluation, config.seed)
    return ComparisonData(
        title=f"{len(comparison.variants)} methods on {', '.join(sources)}",
        model=model_summary(context.model.facts),
        sources=sources,
        targets=targets,
        methods=(
            *variants.untrained_lines(config),
            *(
                variants.method_line(variant, config)
                for variant in variants.with_form(comparison.variants)
            ),
        ),
        starts=comparison.group_starts,
        seeds=comparison.seeds(config),
        steps=tuple(sorted({one.arm.step for one in tested if one.arm.step})),
        num_samples=config.evaluation.num_samples,
        num_questions=test_sizes(context, targets),
        measurements=measurements(tested, sources, targets),
        contrasts=(
            *contrasts(tested, frame, rivals(context)),
            *baseline_contrasts(tested, frame),
        ),
        budgets=tuple(budgets(outcome)),
        failures=tuple(
            Failure(**asdict(cell), reason=why)
            for cell, why in outcome.failures.items()
        ),
        missing=len({*cells_of(context)} - {*outcome.results} - {*outcome.failures}),
        settings=written(context),
        warnings=outcome.warnings,
        versions=dict(installed_versions()),
        data_hashes=hashes(context),
        command=comparison.command,
        least=least_of(config.evaluation),
    )


def test_sizes(context: ComparisonContext, targets: Iterable[str]) -> dict[str, int]:
    """Return each test set's number of questions."""
    tests = next(iter(context.inputs.values())).tests
    sizes = {test.name: len(test.questions) for test in tests}
    return {name: sizes[name] for name in targets}


def all_tested(outcome: Outcome) -> Iterator[Tested]:
    """Yield every model's results at every tested step."""
    for cell, result in outcome.results.items():
        for step, tests in result.tests.items():
            arm = Arm(cell.start, cell.source, cell.method, int(step))
            yield Tested(arm, cell.seed, tests)


def rivals(context: ComparisonContext) -> list[tuple[str, str]]:
    """Return further pairs to compare: each variant of ours with every other."""
    compared = context.comparison.variants
    ours = [variant.name for variant in compared if variant.method == OURS]
    return [
        (own, other.name)
        for own, other in product(ours, compared)
        if other.name not in (own, FORM)
    ]


def budgets(outcome: Outcome) -> Iterator[BudgetLine]:
    """Yield the cost of every method, averaged over seeds."""
    found: dict[tuple[str, str, str], list[Spent]] = defaultdict(list)
    for cell, result in outcome.results.items():
        if result.spent is not None:
            found[cell.start, cell.source, cell.method].append(result.spent)
    for (start, source, method), every in found.items():
        yield BudgetLine(
            start=start,
            source=source,
            method=method,
            **{
                amount.name: fmean(getattr(one, amount.name) for one in every)
                for amount in fields(Spent)
            },
        )


def written(context: ComparisonContext) -> dict[str, str]:
    """Return the shared settings that differ from the defaults."""
    changed = changed_settings(variants.with_budget(context.config))
    changed.pop("evaluation.in_domain", None)
    return toml_values(changed)


def hashes(context: ComparisonContext) -> dict[str, str]:
    """Return the SHA-256 of every pool and test set."""
    found: dict[str, str] = {}
    for source, inputs in context.inputs.items():
        found[f"pool {source}"] = inputs.hashes["pool"]
        found |= {f"test {t.name}": inputs.hashes[t.name] for t in inputs.tests}
    return found


def write_comparison(data: ComparisonData, outcome: Outcome, out: Path) -> None:
    """Write all files of a comparison."""
    score_rows.save_rows(
        rows_of(all_tested(outcome)), SCORE_SCHEMA, SCORE_ROWS, out / score_rows.SCORES
    )
    DATA.save(data, out / DATA.file_name)
    oracles = frozenset(line.name for line in data.methods if line.oracle)
    listed = {
        "measurements": tables.measurement_rows(data.measurements, oracles),
        "contrasts": tables.contrast_rows(data.contrasts, oracles),
        "budgets": tables.budget_rows(data.budgets, oracles),
    }
    save_json(listed, out / RESULTS)
    for name, rows in listed.items():
        write_atomic(out / f"{name}.csv", encode(tables.csv_text(rows)))
    write_page(out)
    files = (f"{name}.csv" for name in listed)
    names = (score_rows.SCORES, DATA.file_name, RESULTS, *files, PAGE)
    integrity.write_listed(out, names)


def write_page(out: Path) -> None:
    """Write the page of a comparison from its data."""
    page = render_comparison(DATA.load(out / DATA.file_name))
    write_atomic(out / PAGE, encode(page))


def rebuild_comparison(out: Path, warn: Callable[[str], None]) -> Path:
    """Rewrite the page of a comparison from its folder.

    Warns of other files that are missing or changed.

    Raises:
        DataError: If there are no results yet, or they were changed.
    """
    path = out / DATA.file_name
    if not os.path.lexists(path):
        raise DataError(
            f"{out} has no {DATA.file_name}: the comparison is not finished; the same "
            "`neuron-opsd compare` command resumes it"
        )
    require_folder(out, "comparison", recognise=is_comparison)
    found = integrity.listed_faults(out)
    found.pop(PAGE, None)
    fault = found.pop(DATA.file_name, None)
    if fault is not None:
        raise DataError(
            f"{fault}; the `neuron-opsd compare` command that started it rewrites it"
        )
    known = {output.file for output in integrity.listed(out)}
    if DATA.file_name not in known:
        warn(f"{path} {integrity.UNPROVEN}")
    for line in found.values():
        warn(line)
    write_page(out)
    if known:
        integrity.write_listed(out, [PAGE], integrity.listed(out))
    return out / PAGE


def rows_of(models: Iterable[Tested]) -> Iterator[score_rows.ScoreRow]:
    """Yield a row for every question asked of a model."""
    for one in models:
        model = {
            "start": one.arm.start,
            "source": one.arm.source,
            "method": one.arm.method,
            "seed": one.seed,
            "steps": one.arm.step,
        }
        yield from score_rows.result_rows(model, one.tests)
