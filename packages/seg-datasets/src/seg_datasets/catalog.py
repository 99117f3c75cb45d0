"""What this package brings, as data: the data sets and the `seg` subcommand. No torch: listing names is instant."""

from seg_core.catalog import DatasetEntry, Entry

__all__ = ["COMMANDS", "DATASETS"]

DATASETS: dict[str, DatasetEntry] = {
    "CamVid": DatasetEntry(
        "seg_datasets.camvid:CamVid",
        "road scenes from a driving car, 367 / 101 / 233 pictures of 480x360, 11 classes",
        label_set="CamVid",
    ),
    "FolderDataset": DatasetEntry(
        "seg_datasets.folder:FolderDataset",
        "your own pictures and index masks, in two folders per split or in two folders that are split here",
    ),
    "Shapes": DatasetEntry(
        "seg_datasets.shapes:Shapes",
        "drawn figures on textured grounds, made on the fly: no files, learnt in a minute or two",
        label_set="Shapes",
        needs_root=False,
    ),
}

COMMANDS: dict[str, Entry] = {
    "datasets": Entry("seg_datasets.commands:DATASETS_COMMAND", "list the data sets, show one and its expected layout"),
}
