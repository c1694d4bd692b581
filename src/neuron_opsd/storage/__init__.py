"""Atomic files, and the run directories made of them.

Writing raises a `TryAgainError` if the disk is full or fails, and a `ConfigError` if
not allowed; reading raises a `DataError` if a file is missing or damaged. Docstrings
name further errors.
"""
