"""Findings of runs, as records without prose."""
