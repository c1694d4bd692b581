"""Whole passes through a network: batches, attention, packs, and its layers."""
