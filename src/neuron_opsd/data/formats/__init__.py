"""What the columns of a file of questions mean, by name for the public sets."""
