"""Low-rank adapters: ours, and what other tools wrote."""
