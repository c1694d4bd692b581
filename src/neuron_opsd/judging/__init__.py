"""Scoring samples that were made elsewhere: `evaluate --completions`."""
