"""Many runs side by side, and the page that compares them."""

from __future__ import annotations

from pathlib import Path

from neuron_opsd.answers.verifier import shared_verifier
from neuron_opsd.comparison import reporting, spreading
from neuron_opsd.comparison.comparison import Comparison, is_comparison, set_up
from neuron_opsd.comparison.grid import fill
from neuron_opsd.config import Config
from neuron_opsd.progress import Progress
from neuron_opsd.results.comparison import ComparisonData
from neuron_opsd.runs.elsewhere import ClusterMachines, machines_for
from neuron_opsd.runs.reporting import rebuild_report
from neuron_opsd.storage.folders import BLOCKS, check_folder, claim


def compare(
    comparison: Comparison, config: Config, progress: Progress
) -> ComparisonData:
    """Train methods on sources with seeds, and measure what each did everywhere."""
    check_folder(comparison.out, "comparison", is_comparison)
    shared_verifier().forget()
    with machines_for(config, progress) as machines:
        context = set_up(comparison, config, progress, machines)
        claim(comparison.out, "comparison", is_comparison)
        if isinstance(machines, ClusterMachines):
            outcome = spreading.fill(context, machines)
        else:
            outcome = fill(context)
    data = reporting.build_comparison(context, outcome)
    reporting.write_comparison(data, outcome, comparison.out)
    return data


def rebuild_page(folder: Path, progress: Progress) -> Path:
    """Write the page of a run or a comparison anew from what its folder holds."""
    if (folder / BLOCKS).is_dir():
        return reporting.rebuild_comparison(folder, progress.warn)
    return rebuild_report(folder, progress.warn)
