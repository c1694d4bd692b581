"""One run in its directory: stages, with the files they leave."""
