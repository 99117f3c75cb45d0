"""Finds, pairs and reads the files of a dataset."""
