"""vLLM, in this process, as what writes free answers."""
