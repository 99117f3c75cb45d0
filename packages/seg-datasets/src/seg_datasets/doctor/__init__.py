"""Tools for datasets: the check of their files, and fake datasets in every official layout."""
