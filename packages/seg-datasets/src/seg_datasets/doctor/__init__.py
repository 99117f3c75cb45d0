"""Tools for datasets: fake datasets in every official layout."""
