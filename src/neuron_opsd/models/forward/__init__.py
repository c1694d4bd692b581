"""Full passes through a network: batches, attention, packs and layers."""
