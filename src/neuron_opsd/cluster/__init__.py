"""Worker processes in a Ray cluster."""
