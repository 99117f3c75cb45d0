"""The networks, one file each, named after their papers."""
