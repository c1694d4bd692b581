"""Run directories: atomic files, locks, manifests and proofs."""
