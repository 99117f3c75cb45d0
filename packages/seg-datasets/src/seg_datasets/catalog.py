"""The datasets and the `seg` subcommand that this package registers. Imports no torch, so listing names is instant."""

from seg_core.catalog import DatasetEntry, Entry

__all__ = ["COMMANDS", "DATASETS"]

DATASETS: dict[str, DatasetEntry] = {
    "ADE20K": DatasetEntry(
        "seg_datasets.official.ade20k:ADE20K",
        "indoor and outdoor scenes, 20210 / 2000 images",
        label_set="ADE20K",
        download=True,
    ),
    "BDD100K": DatasetEntry(
        "seg_datasets.official.bdd100k:BDD100K",
        "US street scenes with the classes of Cityscapes, 7000 / 1000 / 2000 images of 1280x720",
        label_set="BDD100K",
    ),
    "COCOStuff": DatasetEntry(
        "seg_datasets.official.coco_stuff:COCOStuff",
        "everyday scenes with things and stuff, 118287 / 5000 images; or 27 supercategories",
        label_set="COCOStuff",
        download=True,
        splits=("train", "val"),
    ),
    "CamVid": DatasetEntry(
        "seg_datasets.official.camvid:CamVid",
        "road scenes from a car, 367 / 101 / 233 images of 480x360",
        label_set="CamVid",
    ),
    "Cityscapes": DatasetEntry(
        "seg_datasets.official.cityscapes:Cityscapes",
        "street scenes of German cities, all 34 ids, 2975 / 500 / 1525 images of 2048x1024; fine or coarse",
        label_set="Cityscapes",
        splits=("train", "val", "test", "train_extra"),
    ),
    "CityscapesCategory": DatasetEntry(
        "seg_datasets.official.cityscapes:CityscapesCategory",
        "Cityscapes with its 7 categories",
        label_set="CityscapesCategory",
        splits=("train", "val", "test", "train_extra"),
    ),
    "CityscapesClass": DatasetEntry(
        "seg_datasets.official.cityscapes:CityscapesClass",
        "Cityscapes with the 19 classes of its benchmark",
        label_set="CityscapesClass",
        splits=("train", "val", "test", "train_extra"),
    ),
    "FolderDataset": DatasetEntry(
        "seg_datasets.folder:FolderDataset",
        "your own images and masks, in most layouts of folders, split by folders, lists, fractions or folds",
    ),
    "LIP": DatasetEntry(
        "seg_datasets.official.lip:LIP",
        "Look Into Person: body parts and clothes, 30462 / 10000 / 10000 images of one person each",
        label_set="LIP",
    ),
    "LoveDA": DatasetEntry(
        "seg_datasets.official.loveda:LoveDA",
        "urban and rural land cover in aerial images, 2522 / 1669 / 1796 images of 1024x1024",
        label_set="LoveDA",
        download=True,
    ),
    "MapillaryVistas": DatasetEntry(
        "seg_datasets.official.mapillary_vistas:MapillaryVistas",
        "street scenes worldwide, 18000 / 2000 / 5000 large images; v2.0, or v1.2 with 65 classes",
        label_set="MapillaryVistas",
    ),
    "PascalContext": DatasetEntry(
        "seg_datasets.official.pascal_context:PascalContext",
        "VOC 2010 with every pixel labeled, 4998 / 5105 images; 59 classes, or 60 with background",
        label_set="PascalContext",
        splits=("train", "val"),
    ),
    "Potsdam": DatasetEntry(
        "seg_datasets.official.isprs:Potsdam",
        "aerial images of a town, 24 / 14 tiles of 6000x6000, color masks; or with near infrared",
        label_set="Potsdam",
        splits=("train", "test"),
    ),
    "SBD": DatasetEntry(
        "seg_datasets.official.sbd:SBD",
        "Semantic Boundaries: more VOC images with the classes of VOC, 8498 / 2857 images; masks in .mat files",
        label_set="SBD",
        download=True,
        splits=("train", "val", "train_noval"),
    ),
    "Shapes": DatasetEntry(
        "seg_datasets.shapes.dataset:Shapes",
        "synthetic figures on textured backgrounds, drawn on the fly: no files, learned in a minute or two",
        label_set="Shapes",
        needs_root=False,
    ),
    "Unified": DatasetEntry(
        "seg_datasets.unified:Unified",
        "several datasets under one label set, such as Street or Aerial",
        needs_root=False,
    ),
    "VOC": DatasetEntry(
        "seg_datasets.official.voc:VOC",
        "PASCAL VOC 2012: 20 object classes and background, 1464 / 1449 images; trainaug with SBD: 10582",
        label_set="VOC",
        download=True,
        splits=("train", "val", "test", "trainval", "trainaug"),
    ),
    "Vaihingen": DatasetEntry(
        "seg_datasets.official.isprs:Vaihingen",
        "aerial images of a village in infrared, red and green, 16 / 17 tiles, color masks; or with heights",
        label_set="Vaihingen",
        splits=("train", "test"),
    ),
    "iSAID": DatasetEntry(
        "seg_datasets.official.isaid:iSAID",
        "objects in aerial images, 1411 / 458 / 937 large images, or patches of them",
        label_set="iSAID",
    ),
}

COMMANDS: dict[str, Entry] = {
    "datasets": Entry(
        "seg_datasets.commands.datasets:DATASETS_COMMAND",
        "list datasets, show one, download one, write a fake one; statistics, comparison and contact sheet of one",
    ),
}
