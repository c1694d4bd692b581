"""Files, processes and machines: all that the method itself never touches."""
