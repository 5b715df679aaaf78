"""Benchmarks: `run.py bench NAME`. Modules that begin with an underscore are their common parts."""
