"""Looking after datasets: invented trees of every layout."""
