"""Results turned into words, figures, one self-contained page and a model card.

Every function here is pure: records in, text out. Files are written by the pipeline.
"""

from __future__ import annotations

from neuron_opsd.report.card import render_card
from neuron_opsd.report.run_outcome import comparison_table, outcome_sentence
from neuron_opsd.report.run_page import render_page
from neuron_opsd.results.run import ReportData

__all__ = [
    "ReportData",
    "comparison_table",
    "outcome_sentence",
    "render_card",
    "render_page",
]
