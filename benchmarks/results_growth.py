"""What a run's results take, in files and in memory, as questions grow.

    python benchmarks/results_growth.py --questions 50000 200000 --tokens 200

Every line is a process of its own. It makes rollouts or scores up, and then does what a
run does with them: join blocks of the pool's rollouts, vote, and choose what stands for
each question; or report on as many test questions, before, after and with one control.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "support")]

from neuron_opsd.answers.votes import tally_votes  # noqa: E402
from neuron_opsd.config import Config, EvaluationConfig  # noqa: E402
from neuron_opsd.records import (  # noqa: E402
    Completion,
    GoldAnswers,
    Rollout,
    SelectionEntry,
)
from neuron_opsd.records.scores import QuestionScore, TestResult  # noqa: E402
from neuron_opsd.report.condense import pool_summary  # noqa: E402
from neuron_opsd.report.run_page import render_page  # noqa: E402
from neuron_opsd.runs.context import TestSet  # noqa: E402
from neuron_opsd.runs.findings import (  # noqa: E402
    Findings,
    compare_tests,
    comparison_entry,
)
from neuron_opsd.runs.reporting import REPORT  # noqa: E402
from neuron_opsd.stages.scoring import summarise  # noqa: E402
from neuron_opsd.stages.teaching import representatives  # noqa: E402
from neuron_opsd.storage.caching import InChunks, Task  # noqa: E402
from neuron_opsd.storage.codecs import ROLLOUTS, to_json  # noqa: E402
from neuron_opsd.storage.run_directory import RunDirectory  # noqa: E402
from neuron_opsd.storage.score_rows import save_run_scores  # noqa: E402
from neuron_opsd.storage.stored_rollouts import summaries_of  # noqa: E402
from report_examples import example_report  # noqa: E402

CONFIG = Config(evaluation=EvaluationConfig(num_resamples=20))
SAMPLES = 8


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every part and size in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--questions", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--tokens", type=int, default=200, help="of a rollout")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        start = peak()
        with tempfile.TemporaryDirectory(prefix="results-growth-") as folder:
            began = time.perf_counter()
            (count,) = options.questions
            said = PARTS[options.part](Path(folder), count, options.tokens)
        seconds = time.perf_counter() - began
        print(
            f"{options.part:<10} {count:>9,} questions  {seconds:6.1f} s  "
            f"{peak() - start:8.1f} MB more than at the start  {said}",
            flush=True,
        )
        return 0
    for part in PARTS:
        for count in options.questions:
            words = ["--part", part, "--questions", str(count)]
            words += ["--tokens", str(options.tokens)]
            subprocess.run([sys.executable, __file__, *words], check=True)
    return 0


def peak() -> float:
    """Return the most memory this process has held, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def rollouts_of(questions: Sequence[int], num_tokens: int) -> list[Rollout]:
    """Return made rollouts of some questions, all different."""
    return [
        Rollout(
            f"q{n}",
            k,
            0.6,
            Completion(
                tuple((n * 31 + k * 7 + t) % 50_000 for t in range(num_tokens)),
                f"{n} {k} " * (num_tokens // 2),
                finished=True,
                logprob=-1.0,
                entropy=0.1,
            ),
            str((n + k) % 3),
        )
        for n in questions
        for k in range(SAMPLES)
    ]


def pool(folder: Path, count: int, num_tokens: int) -> str:
    """Join a pool's rollouts, vote, and choose what stands for each question."""
    with RunDirectory.open(folder / "run", {}, {}) as run:
        rollouts = run.chunks(
            "rollouts",
            ROLLOUTS,
            InChunks(range(count), 64),
            Task(num_tokens, lambda size, chunk: rollouts_of(chunk, size)),
        )
    votes = tally_votes(summaries_of(rollouts))
    chosen = representatives(summaries_of(rollouts), votes, CONFIG)
    size = (folder / "run" / "rollouts.parquet").stat().st_size / 1e6
    return f"rollouts.parquet {size:.1f} MB, {len(chosen):,} chosen"


def scores_of(count: int, shift: int) -> Iterator[QuestionScore]:
    """Yield the made scores of so many questions."""
    for n in range(count):
        right = (n * 7 + shift) % 9
        gold, other = ("yes", "no") if n % 3 else ("no", "yes")
        given = ((gold, right), (other, SAMPLES - right))
        yield QuestionScore(
            *(f"q{n}", right, SAMPLES, gold if right > 4 else other, right > 4),
            *(max(right, SAMPLES - right) / SAMPLES, 0, 0, 3.0, gold),
            tuple((answer, k) for answer, k in given if k),
        )


def result_of(count: int, shift: int) -> TestResult:
    """Return the made result of one model."""
    return summarise("law", tuple(scores_of(count, shift)), CONFIG.evaluation)


def report(folder: Path, count: int, num_tokens: int) -> str:
    """Report on so many questions, and write everything that says so."""
    del num_tokens
    test = TestSet("law", (), GoldAnswers({}), in_domain=True)
    before, after, form = (result_of(count, shift) for shift in range(3))
    findings = Findings({"law": before}, {"law": after}, {"form-only": {"law": form}})
    made = peak()
    entries = [
        SelectionEntry(f"q{n}", 5000 + n % 900, n, kept=n < count // 5, reason="rank")
        for n in range(count)
    ]
    data = replace(
        example_report(),
        tests=compare_tests([test], findings, CONFIG),
        pool=pool_summary(entries, {}),
    )
    save_run_scores({"before": findings.before, "after": findings.after}, folder / "s")
    REPORT.save(data, folder / "report.json")
    page = render_page(REPORT.load(folder / "report.json"))
    measures = to_json({one.name: comparison_entry(one) for one in data.tests})
    sizes = {
        "report.json": (folder / "report.json").stat().st_size,
        "page": len(page.encode()),
        "evaluation.json": len(measures),
        "scores.parquet": (folder / "s").stat().st_size,
    }
    told = ", ".join(f"{name} {size / 1e3:.0f} kB" for name, size in sizes.items())
    return f"{told}; {peak() - made:.0f} MB of it beside the scores"


PARTS = {"pool": pool, "report": report}


if __name__ == "__main__":
    sys.exit(main())
