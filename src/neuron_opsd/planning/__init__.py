"""What a run costs, estimated in advance."""
