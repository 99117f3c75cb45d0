"""Scores of label maps: the confusion matrix and what is computed from it."""
