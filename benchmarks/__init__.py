"""Benchmarks: ours beside other libraries in one run, which also checks that the results agree. See README.md."""
