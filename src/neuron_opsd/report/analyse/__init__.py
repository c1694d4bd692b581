"""The page of an analysis: records in, one HTML page out."""
