"""Draws boards from what Prometheus answered during a day of trouble: `make pictures`."""
