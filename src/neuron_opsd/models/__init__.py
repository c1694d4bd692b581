"""The one doorway to weights: nothing outside imports transformers or peft."""
