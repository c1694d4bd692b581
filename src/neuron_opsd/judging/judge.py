"""Judging samples that were made elsewhere; no model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError
from neuron_opsd.judging.confidences import confidences_of
from neuron_opsd.judging.findings import MINOR
from neuron_opsd.judging.pairing import Named, paired
from neuron_opsd.judging.questions import Asked, read_asked
from neuron_opsd.judging.reading import Answers, read_answers
from neuron_opsd.judging.scoring import Scored, agreement, levels, score
from neuron_opsd.method.calibration import reliability_bins
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.report.judging_page import render_judgement
from neuron_opsd.results.judging import JudgedFile, JudgementData
from neuron_opsd.storage.codecs import encode, save_json, without_nan
from neuron_opsd.storage.files import write_atomic
from neuron_opsd.storage.folders import check_result_place
from neuron_opsd.storage.manifest import installed_versions

PAGE: Final = ".html"


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """What is judged, and where the result goes."""

    files: Mapping[str, Path]
    """Name to file of samples; the others are compared with the first."""
    tests: Mapping[str, str] = field(default_factory=dict)
    """At most one test set; without it the files carry questions and gold answers."""
    out: Path | None = None
    """JSON file; the page goes beside it, with the ending `PAGE`."""
    confidence: str = ""
    """Column with stated confidences; a usual name where it is empty."""
    command: str = ""


def judge(
    request: JudgeRequest, config: Config, progress: Progress = QUIET
) -> JudgementData:
    """Score files of samples, pair them, and write what came out.

    Raises:
        NeuronOpsdError: For anything that the user can mend.
    """
    check_request(request)
    asked = read_asked(request.tests, request.files, config, progress.warn)
    found = [
        judged(
            name,
            read_answers(
                path, asked.matcher, asked.readers, config, request.confidence
            ),
            asked,
            config,
            progress,
        )
        for name, path in request.files.items()
    ]
    first, *others = [Named(told.name, scored) for told, scored in found]
    pairs = [paired(first, other, asked.name, config) for other in others]
    for other, pair in zip(others, pairs, strict=True):
        if pair is None:
            progress.warn(f"{first.name} and {other.name} answer no question in common")
    data = JudgementData(
        title=f"Samples scored on {asked.name}",
        test=asked.name,
        num_questions=len(asked.questions),
        files=tuple(told for told, _ in found),
        pairs=tuple(pair for pair in pairs if pair is not None),
        num_bins=config.evaluation.num_bins,
        num_resamples=config.evaluation.num_resamples,
        least_accuracy=config.evaluation.min_difference,
        least_calibration=config.evaluation.min_calibration_difference,
        reader=config.answers.reader,
        command=request.command,
        versions=installed_versions(),
        data_hashes=hashes(asked, [told for told, _ in found]),
    )
    if request.out is not None:
        write_judgement(data, request.out)
    return data


def check_request(request: JudgeRequest) -> None:
    """Refuse what cannot be judged before anything is read."""
    if not request.files:
        raise ConfigError("no file of samples is given; add --completions FILE.jsonl")
    if len(request.tests) > 1:
        raise ConfigError(
            f"samples are scored against one test set, but {len(request.tests)} are "
            f"given ({', '.join(request.tests)}); call the command once for each"
        )
    if request.out is not None:
        places = [*request.files.values(), *map(Path, request.tests.values())]
        for out in (request.out, page_of(request.out)):
            check_result_place(out, places)
        if page_of(request.out) == request.out:
            raise ConfigError(
                f"--out is {request.out}, but the page gets that name; end it in .json"
            )


def judged(
    name: str, answers: Answers, asked: Asked, config: Config, progress: Progress
) -> tuple[JudgedFile, Scored]:
    """Score one file, and say what is not as it should be in it."""
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
    """Say what was found in a file, with the first place of each kind."""
    for one in told.findings:
        if one.kind not in MINOR:
            progress.warn(
                f"{told.name}: {one.count:,} {one.text}, first {one.first[0]}"
            )
    unread = answers.findings.counts.get("unread", 0)
    if 2 * unread > told.num_samples:
        progress.warn(
            f"{told.name}: most answers could not be read by answers.reader="
            f"{config.answers.reader}; `neuron-opsd read` shows why, and another "
            "reader is set by --set answers.reader=NAME"
        )


def hashes(asked: Asked, files: list[JudgedFile]) -> dict[str, str]:
    """Return the SHA-256 of what was read, by name."""
    found = {asked.name: asked.sha256} if asked.sha256 else {}
    return found | {one.name: one.sha256 for one in files}


def page_of(out: Path) -> Path:
    """Return where the page of a result goes."""
    return out.with_suffix(PAGE)


def write_judgement(data: JudgementData, out: Path) -> None:
    """Write a judgement as JSON, and as a page beside it."""
    save_json(without_nan(data), out)
    write_atomic(page_of(out), encode(render_judgement(data)))
