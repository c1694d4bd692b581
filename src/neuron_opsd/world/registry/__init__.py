"""What package registries carry: a small model and question sets, fetched once."""
