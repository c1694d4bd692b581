"""The atlas of a run: which neurons questions share."""
