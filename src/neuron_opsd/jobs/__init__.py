"""What the pipeline does in a run directory: stages, with the files they leave.

A run's own jobs lie here; what several runs say together, or one would cost, has a
package each.
"""
