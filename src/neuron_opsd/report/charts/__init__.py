"""Three marks that all pages draw with: intervals, curves and cells, as static SVG."""
