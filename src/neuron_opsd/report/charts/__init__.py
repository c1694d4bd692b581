"""Charts for all pages as static SVG: intervals, curves and heat maps."""
