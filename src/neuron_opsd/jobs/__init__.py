"""What the pipeline does in a run directory: stages, with the files they leave."""
