"""Where weights are stored and how they are read."""
