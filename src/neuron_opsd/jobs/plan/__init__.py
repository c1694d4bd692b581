"""What a run would cost, from small samples of its own stages: `plan`."""
