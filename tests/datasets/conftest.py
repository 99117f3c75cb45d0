"""Fake datasets that many tests only read."""

import functools

import pytest

from seg_datasets.doctor.fake import fake


@pytest.fixture(scope="session")
def fake_tree(tmp_path_factory):
    """Returns a function like `fake` without a folder: it writes each tree once. Tests must not change the tree."""

    @functools.cache
    def write(name, **options):
        return fake(name, tmp_path_factory.mktemp("fake") / name, **options)

    return write
