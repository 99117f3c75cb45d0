"""Kernels that make the losses fast and small on a CPU."""
