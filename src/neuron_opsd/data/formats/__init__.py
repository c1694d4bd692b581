"""What the columns of a question file mean, by name for the public sets."""
