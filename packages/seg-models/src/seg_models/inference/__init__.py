"""From pictures to labels with a trained network."""
