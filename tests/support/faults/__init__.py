"""Faults given to real tiny runs, one system call at a time, and what came of them."""
