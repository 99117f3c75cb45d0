"""Prediction of images with a trained network."""
