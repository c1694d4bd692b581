"""Static SVG charts: intervals, curves and heat maps."""
