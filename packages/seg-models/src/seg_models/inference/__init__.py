"""From images to labels with a trained network."""
