"""Judging samples, as a function for the library: plain arguments in, records out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from neuron_opsd.config.tables import Settings, as_config
from neuron_opsd.judging import judge as judging
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.results.judging import JudgementData


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
        out: JSON file for the result, beside which a page goes.
        progress: Told what is not as it should be in the files.
        confidence: Column with stated confidences, where it has no usual name.
        command: How this was called, for the page.

    Raises:
        NeuronOpsdError: For anything that the user can mend.
    """
    request = judging.JudgeRequest(
        {name: Path(file) for name, file in completions.items()},
        {name: str(file) for name, file in (tests or {}).items()},
        None if out is None else Path(out),
        confidence,
        command,
    )
    return judging.judge(request, as_config(settings or {}), progress)
