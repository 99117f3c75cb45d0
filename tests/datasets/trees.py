"""Image files, trees and archives that the tests of datasets write and read."""

import contextlib
import dataclasses

from PIL import Image
from torch.utils.data import DataLoader


def save(path, pixels):
    """Writes an array as an image; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def with_archives(edition, archives):
    """Returns an edition that downloads these archives."""
    return dataclasses.replace(edition, layout=dataclasses.replace(edition.layout, archives=tuple(archives)))


def with_archives_at(edition, url, **changes):
    """Returns an edition that downloads its archives from the folder `url`, with other attributes if given."""
    archives = edition.layout.archives
    return with_archives(
        edition, (dataclasses.replace(a, url=f"{url}/{a.url.rsplit('/', 1)[-1]}", **changes) for a in archives)
    )


@contextlib.contextmanager
def samples_from_workers(dataset):
    """Gives an iterator over the samples, as two workers read them; stops the workers at the end.

    Left to the garbage collector, torch waits five seconds for each worker after an error.
    """
    samples = iter(DataLoader(dataset, batch_size=None, num_workers=2))
    try:
        yield samples
    finally:
        samples._shutdown_workers()
