"""Signals, worker processes and their resources."""
