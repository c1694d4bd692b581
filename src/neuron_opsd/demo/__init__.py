"""The demonstration's model, questions and settings."""
