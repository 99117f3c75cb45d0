"""Loggers: one class per file, all with the hooks of `seg_train.Logger`."""
