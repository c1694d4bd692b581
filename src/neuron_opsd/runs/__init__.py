"""The stages of one run and the files they write."""
