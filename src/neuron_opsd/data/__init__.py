"""Question files: formats, columns, overlap."""
