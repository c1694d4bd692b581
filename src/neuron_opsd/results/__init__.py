"""What runs found, as records without words."""
