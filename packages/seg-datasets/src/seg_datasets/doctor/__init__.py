"""Looking after data sets: invented trees of every layout."""
