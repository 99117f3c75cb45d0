"""From a name and options to a network."""
