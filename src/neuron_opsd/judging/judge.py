"""Judge samples made elsewhere, without loading a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.config.tables import Settings, as_config
from neuron_opsd.errors import ConfigError
from neuron_opsd.judging.confidences import confidences_of
from neuron_opsd.judging.findings import MINOR
from neuron_opsd.judging.questions import Asked, read_asked
from neuron_opsd.judging.reading import Answers, read_answers
from neuron_opsd.judging.scoring import Scored, agreement, levels, paired, score
from neuron_opsd.method.calibration import reliability_bins
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.report.judging_page import render_judgement
from neuron_opsd.results.judging import JudgedFile, JudgementData
from neuron_opsd.storage.codecs import encode, save_json, without_nan
from neuron_opsd.storage.files import write_atomic
from neuron_opsd.storage.folders import check_result_place
from neuron_opsd.storage.manifest import installed_versions

PAGE: Final = ".html"


def judge(  # noqa: PLR0913 - as the command has them
    completions: Mapping[str, str | Path],
    settings: Settings | None = None,
    tests: Mapping[str, str | Path] | None = None,
    out: str | Path | None = None,
    progress: Progress = QUIET,
    *,
    confidence: str = "",
    command: str = "",
) -> JudgementData:
    """Score samples that were made elsewhere; no model is loaded.

    Args:
        completions: Name to file of samples; all are compared with the first.
        settings: How answers and files are read, bins, resamples, seed.
        tests: One test set by name; without it files carry questions and answers.
        out: JSON file for the result; a page is written next to it.
        progress: Receives warnings about irregularities in the files.
        confidence: Column with stated confidences, if it has no usual name.
        command: How this was called, for the page.

    Raises:
        NeuronOpsdError: For anything that the user can fix.
    """
    files = {name: Path(file) for name, file in completions.items()}
    sets = {name: str(file) for name, file in (tests or {}).items()}
    config, place = as_config(settings or {}), None if out is None else Path(out)
    check_request(files, sets, place)
    asked = read_asked(sets, files, config, progress.warn)
    found = []
    for name, path in files.items():
        answers = read_answers(path, asked.matcher, asked.readers, config, confidence)
        found.append(judged(name, answers, asked, config, progress))
    data = judgement(found, asked, config, progress, command)
    if place is not None:
        save_json(without_nan(data), place)
        write_atomic(page_of(place), encode(render_judgement(data)))
    return data


def judgement(
    found: Sequence[tuple[JudgedFile, Scored]],
    asked: Asked,
    config: Config,
    progress: Progress,
    command: str,
) -> JudgementData:
    """Compare the first file with each other one, and return the result."""
    (first, one), *others = found
    pairs = []
    for told, other in others:
        pair = paired((first.name, told.name), one, other, asked.name, config)
        if pair is None:
            progress.warn(f"{first.name} and {told.name} answer no question in common")
        else:
            pairs.append(pair)
    files = tuple(told for told, _ in found)
    hashes = {asked.name: asked.sha256} if asked.sha256 else {}
    settings = config.evaluation
    return JudgementData(
        title=f"Samples scored on {asked.name}",
        test=asked.name,
        num_questions=len(asked.questions),
        files=files,
        pairs=tuple(pairs),
        num_bins=settings.num_bins,
        num_resamples=settings.num_resamples,
        least_accuracy=settings.min_difference,
        least_calibration=settings.min_calibration_difference,
        reader=config.answers.reader,
        command=command,
        versions=installed_versions(),
        data_hashes=hashes | {one.name: one.sha256 for one in files},
    )


def check_request(
    files: Mapping[str, Path], tests: Mapping[str, str], out: Path | None
) -> None:
    """Refuse what cannot be judged before anything is read."""
    if not files:
        raise ConfigError("no file of samples is given; add --completions FILE.jsonl")
    if len(tests) > 1:
        raise ConfigError(
            f"samples are scored against one test set, but {len(tests)} are given "
            f"({', '.join(tests)}); run the command once for each"
        )
    if out is not None:
        for place in (out, page_of(out)):
            check_result_place(place, [*files.values(), *map(Path, tests.values())])
        if page_of(out) == out:
            raise ConfigError(
                f"--out is {out}, but the page gets that name; end it in .json"
            )


def judged(
    name: str, answers: Answers, asked: Asked, config: Config, progress: Progress
) -> tuple[JudgedFile, Scored]:
    """Score one file, and warn of irregularities in it."""
    scored = score(answers, asked, config, progress)
    counts = [len(own) for own in answers.of.values()]
    bins = reliability_bins(scored.scores, config.evaluation.num_bins)
    told = JudgedFile(
        name=name,
        file=answers.name,
        sha256=answers.sha256,
        shapes=tuple(answers.shapes),
        num_questions=len(scored.scores),
        num_samples=sum(counts),
        samples=(min(counts), max(counts)),
        measures=levels(scored, asked.name, config),
        bins=tuple(bins),
        confidences=confidences_of(scored.scores, scored.judged, asked.name, config),
        findings=tuple(answers.findings.told()),
        agreement=agreement(scored.judged),
        num_unsettled=scored.num_unsettled,
    )
    warn_of(told, answers, config, progress)
    return told, scored


def warn_of(
    told: JudgedFile, answers: Answers, config: Config, progress: Progress
) -> None:
    """Warn of a file's irregularities, with their first places."""
    for one in told.findings:
        if one.kind not in MINOR:
            progress.warn(
                f"{told.name}: {one.count:,} {one.text}, first {one.first[0]}"
            )
    unread = answers.findings.counts.get("unread", 0)
    if 2 * unread > told.num_samples:
        progress.warn(
            f"{told.name}: most answers could not be read by "
            f"answers.reader={config.answers.reader}; `neuron-opsd read` shows why; "
            "choose another reader with --set answers.reader=NAME"
        )


def page_of(out: Path) -> Path:
    """Return the path of a result's page."""
    return out.with_suffix(PAGE)
