"""The public names of seg_datasets and their modules; the dataset classes come from the catalog."""

from seg_datasets.catalog import DATASETS

EXPORTS = {
    **{name: entry.target for name, entry in DATASETS.items()},
    "check": "seg_datasets.doctor.check:check",
    "compare": "seg_datasets.doctor.compare:compare",
    "fake": "seg_datasets.doctor.fake:fake",
    "get_dataset": "seg_datasets.factory:get_dataset",
    "list_datasets": "seg_datasets.factory:list_datasets",
    "preview": "seg_datasets.doctor.preview:preview",
    # the classes of a dataset are often wanted beside it
    "resolve_metadata": "seg_core.labels.metadata:resolve_metadata",
    "stats": "seg_datasets.doctor.stats:stats",
    "unify": "seg_datasets.unified:unify",
}
