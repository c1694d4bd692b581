"""Files that are written whole or not at all, and run directories made of them.

Whatever writes raises a `TryAgainError` where the disk is full or fails, and a
`ConfigError` where nothing may be written; whatever reads raises a `DataError` where a
file is missing or does not hold what it should. Docstrings name what is raised besides.
"""
