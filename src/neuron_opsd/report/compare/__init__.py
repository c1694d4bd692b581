"""The page of a comparison: rows of numbers in, one HTML page out."""
