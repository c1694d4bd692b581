"""Tiny runs and comparisons, ended or stopped, to be damaged and looked at again."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from file_damage import Damage
from neuron_opsd.cli import main
from neuron_opsd.records import StepMetrics
from neuron_opsd.runs import training
from neuron_opsd.runs.metrics import append_metrics
from neuron_opsd.storage import chunks as blocks
from tiny_runs import (
    SETTINGS,
    command_line,
    parity_rows,
    pool_rows,
    tiny_request,
    write_rows,
)


@dataclass(frozen=True)
class Specimen:
    """A run or a comparison that may be copied and harmed."""

    name: str
    home: Path
    """Holds the folder and the files of questions."""
    resume: tuple[str, ...]
    """The command that started it, with OUT in the place of its folder."""

    @property
    def unfinished(self) -> bool:
        """Whether it was stopped."""
        return " in its " in self.name

    @property
    def folder(self) -> Path:
        """The folder of the run or the comparison."""
        return self.home / "out"

    def files(self) -> list[str]:
        """Return the names of all its files."""
        found = (p for p in sorted(self.folder.rglob("*")) if p.is_file())
        return [path.relative_to(self.folder).as_posix() for path in found]

    def command(self, out: Path) -> list[str]:
        """Return the command that resumes a copy."""
        return [word.replace("OUT", str(out)) for word in self.resume]

    @contextmanager
    def copied(self, to: Path) -> Iterator[Path]:
        """Give a copy that is gone afterwards."""
        shutil.copytree(self.folder, to, symlinks=True)
        try:
            yield to
        finally:
            shutil.rmtree(to)


def finished(home: Path, model: Path) -> Specimen:
    """Return a run that has ended."""
    specimen = run_specimen("finished run", home, model)
    assert main(specimen.command(specimen.folder)) == 0
    return specimen


def in_blocks(home: Path, model: Path) -> Specimen:
    """Return a run that was stopped between two blocks of its rollouts."""
    specimen = run_specimen("run in its blocks", home, model)
    with stopped(blocks.Chunks, "keep", after=2):
        assert main(specimen.command(specimen.folder)) == 130
    assert list(specimen.folder.rglob("*.done"))
    return specimen


def in_training(home: Path, model: Path) -> Specimen:
    """Return a run that was stopped in the step after a checkpoint."""
    specimen = run_specimen("run in its training", home, model)

    def append(work: Path, entry: StepMetrics) -> None:
        append_metrics(work, entry)
        if entry.step == 2:
            raise KeyboardInterrupt

    with instead(training, "append_metrics", append):
        assert main(specimen.command(specimen.folder)) == 130
    assert list(specimen.folder.rglob("checkpoint.json"))
    return specimen


def compared(home: Path, model: Path) -> Specimen:
    """Return a comparison that has ended."""
    specimen = comparison_specimen("finished comparison", home, model)
    assert main(specimen.command(specimen.folder)) == 0
    return specimen


def comparing(home: Path, model: Path) -> Specimen:
    """Return a comparison that was stopped while it trained its second method."""
    specimen = comparison_specimen("comparison in its training", home, model)

    def append(work: Path, entry: StepMetrics) -> None:
        append_metrics(work, entry)
        if entry.step == 1 and "lmsi" in str(work):
            raise KeyboardInterrupt

    with instead(training, "append_metrics", append):
        assert main(specimen.command(specimen.folder)) == 130
    return specimen


def run_specimen(name: str, home: Path, model: Path) -> Specimen:
    """Return a run that is not begun."""
    request = tiny_request(home, "OUT")
    words = command_line(request, model, ["rollouts.block_size=4"])
    resume = tuple(word.replace(str(request.out), "OUT") for word in words)
    return Specimen(name, home, resume)


def comparison_specimen(name: str, home: Path, model: Path) -> Specimen:
    """Return a comparison that is not begun."""
    pool = write_rows(home / "pool.jsonl", pool_rows("choices"))
    test = write_rows(home / "test.jsonl", parity_rows(range(100, 106), "a"))
    settings = [*SETTINGS, "distill.steps=3", "evaluation.num_resamples=20"]
    resume = ["compare", "--model", str(model), "--source", f"parity={pool}"]
    resume += ["--test", f"parity={test}", "--methods", "lmsi", "--seeds", "1"]
    resume += [word for one in settings for word in ("--set", one)]
    return Specimen(name, home, (*resume, "--out", "OUT", "--quiet"))


@contextmanager
def instead(owner: Any, name: str, other: Any) -> Iterator[None]:
    """Put something else in the place of an attribute."""
    real = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, real)


@contextmanager
def stopped(owner: Any, name: str, after: int) -> Iterator[None]:
    """Interrupt from the keyboard when something is called once more than `after`."""
    real, calls = getattr(owner, name), []

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with instead(owner, name, call):
        yield


@dataclass(frozen=True)
class Ending:
    """How a command ended."""

    status: int
    said: str
    """All that it wrote."""
    complaints: tuple[str, ...]
    """Lines in which the program itself speaks."""


def end_of(argv: Sequence[str]) -> Ending:
    """Run a command in this process; what it raises passes."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(list(argv))
    lines = err.getvalue().splitlines()
    said = out.getvalue() + err.getvalue()
    own = tuple(line for line in lines if line.startswith("neuron-opsd: "))
    return Ending(status, said, own)


COMMANDS = ("status", "status --json", "report", "resume", "analyse")
"""What may be done with a damaged run or comparison."""


def argv_of(command: str, specimen: Specimen, out: Path) -> list[str]:
    """Return the arguments of one of `COMMANDS` for a copy."""
    if command == "resume":
        return specimen.command(out)
    if command == "analyse":
        block = out / "blocks/parity/seed-0/base/methods/prompted"
        run = block if "comparison" in specimen.name else out
        return ["analyse", str(run), "--quiet", "--out", str(out.parent / "analysis")]
    return [*command.split(), str(out)]


UNTOUCHED = "of somebody else"
UNPROVABLE = re.compile(r"(.*/)?(LOCK|LOCK\.holder|\.neuron-opsd)|parts/.*")
"""Files that hold nothing of a result; a look at a run need not speak of them."""


Results = Mapping[str, Any]


def fault_after(
    specimen: Specimen, file: str, damage: Damage, command: str, wanted: Results
) -> str:
    """Damage a file of a copy, run a command; say what is wrong, if anything is.

    Args:
        specimen: Is copied.
        file: Of the copy.
        damage: Is done to it.
        command: One of `COMMANDS`.
        wanted: What a whole one leaves, as `results_of` and `analysis_of` say.
    """
    victim = specimen.home / "victim"
    victim.write_text(UNTOUCHED)
    with specimen.copied(specimen.home / "copy") as out:
        damage.do(out / file)
        try:
            with limited(120):
                ended = end_of(argv_of(command, specimen, out))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - that is the test
            return f"raised {type(error).__name__}: {str(error)[:200]}"
        if victim.read_text() != UNTOUCHED:
            return "touched a file of somebody else"
        if ended.status:
            return fault_of_refusal(ended)
        if command == "resume":
            return unlike(results_of(out), wanted)
        if tells(ended, file) or need_not_tell(specimen, file, damage):
            return ""
        return silent(command, specimen, out, wanted)


def tells(ended: Ending, file: str) -> bool:
    """Say whether a command has spoken of a file or its folder."""
    path = Path(file)
    return path.name in ended.said or f"/{path.parent} " in ended.said


def need_not_tell(specimen: Specimen, file: str, damage: Damage) -> bool:
    """Say whether a look at a run may leave out a damaged file.

    It holds nothing of a result, is as good as before, or says what is made again.
    """
    taken_again = specimen.unfinished and file.endswith("metrics.jsonl")
    as_good = damage.kind == "marked" or damage.kind.endswith(", sealed")
    return taken_again or as_good or UNPROVABLE.fullmatch(file) is not None


def silent(command: str, specimen: Specimen, out: Path, wanted: Results) -> str:
    """Say what is wrong where a command has not spoken of a file."""
    if command == "report":
        return unlike(pages_of(out), pages_of(specimen.folder))
    if command == "analyse":
        return unlike(analysis_of(out), wanted)
    return "says nothing of the file"


def fault_of_refusal(ended: Ending) -> str:
    """Say what is wrong with how a command was refused, if anything is."""
    if ended.status not in (2, 75):
        return f"status {ended.status}"
    if len(ended.complaints) != 1 or "Traceback" in ended.said:
        return f"{len(ended.complaints)} lines: {ended.said[-300:]}"
    (line,) = ended.complaints
    return f"a line of {len(line)} characters" if len(line) > 1000 else ""


KEPT = re.compile(r"(.*/)?adapter/.*|evaluation\.json|results\.json|measurements\.csv")


def results_of(out: Path) -> dict[str, Any]:
    """Return what must not depend on damage: names of files, results, weights."""
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    kept = [n for n in names if KEPT.fullmatch(n) and not n.endswith("README.md")]
    found: dict[str, Any] = {name: (out / name).read_bytes() for name in kept}
    if "results.json" in found:
        found["results.json"] = without_times(json.loads(found["results.json"]))
    return found | {"files": sorted(n for n in names if "checkpoints" not in n)}


def without_times(table: Any) -> Any:
    """Return the tables of a comparison without seconds."""
    for row in table["budgets"]:
        row.pop("seconds", None)
    return table


def pages_of(out: Path) -> dict[str, bytes]:
    """Return the pages of a run or a comparison."""
    return {path.name: path.read_bytes() for path in out.glob("*.html")}


def analysis_of(out: Path) -> dict[str, Any]:
    """Return what an analysis says."""
    path = out.parent / "analysis/analysis.json"
    return {"analysis": json.loads(path.read_bytes())}


def unlike(found: Results, wanted: Results) -> str:
    """Name what is not as it should be."""
    other = {name for name in found if found[name] != wanted.get(name)}
    if "files" in found:
        other |= wanted.keys() - found.keys() - {"analysis"}
    return f"another {', '.join(sorted(other))} in silence" if other else ""


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise where something takes longer."""

    def ring(number: int, frame: object) -> None:
        del number, frame
        raise TimeoutError(f"it took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
