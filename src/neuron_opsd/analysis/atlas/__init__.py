"""Which neurons questions share: the atlas of a run."""
