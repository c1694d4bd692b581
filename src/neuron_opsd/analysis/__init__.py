"""What neuron counts and retrieved demonstrations of runs say: `analyse`."""
