"""Where weights lie, and how they are read."""
