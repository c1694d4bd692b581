"""Reading answers, telling when two are the same, and voting."""
