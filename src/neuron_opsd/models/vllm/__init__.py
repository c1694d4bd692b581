"""vLLM in this process, for writing free answers."""
