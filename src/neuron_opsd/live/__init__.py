"""A page of a run while it works, served to the browsers of this machine alone."""
