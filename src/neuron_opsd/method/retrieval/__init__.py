"""The nearest neuron sets of a pool: exact, and by sketches."""
