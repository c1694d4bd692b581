"""Signals, worker processes and what they may take."""
