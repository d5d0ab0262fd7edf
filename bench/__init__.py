"""Benchmarks of the Tea Emporium: each starts a cluster of its own, loads it, and judges what it promised."""
