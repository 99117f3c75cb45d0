"""Benchmarks: ours beside the peers, in one run that also checks that the results agree. See README.md."""
