"""Atomic files, and the run directories made of them.

Writing raises a `TryAgainError` if the disk is full or fails, and a `ConfigError` if
writing is not allowed; reading raises a `DataError` if a file is missing or does not
hold what it should. Docstrings name further errors.
"""
