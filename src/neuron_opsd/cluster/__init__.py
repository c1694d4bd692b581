"""Processes of a Ray cluster that work for this one, and nothing else of a cluster."""
