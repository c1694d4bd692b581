"""Methods x sources x seeds on equal terms: what `compare` plans, fills and reports."""
