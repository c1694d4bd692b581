"""Score samples made elsewhere: `evaluate --completions`."""
