"""The losses, optimizers, LR schedulers, loggers and commands that seg-train registers by name. Imports no torch."""

from seg_core.catalog import Entry

__all__ = ["COMMANDS", "LOGGERS", "LOSSES", "OPTIMIZERS", "SCHEDULERS"]

LOSSES = {
    "BinaryCrossEntropyLoss": Entry(
        "seg_train.losses.binary_cross_entropy:BinaryCrossEntropyLoss",
        "cross entropy of one object, or of overlapping classes",
    ),
    "BoundaryLoss": Entry(
        "seg_train.losses.boundary:BoundaryLoss", "class-balanced binary cross entropy of boundaries, as in PIDNet"
    ),
    "CombinedLoss": Entry("seg_train.losses.combined:CombinedLoss", "weighted sum of several losses"),
    "CrossEntropyLoss": Entry(
        "seg_train.losses.cross_entropy:CrossEntropyLoss", "cross entropy over pixels, with class weights"
    ),
    "DetailLoss": Entry("seg_train.losses.boundary:DetailLoss", "cross entropy and Dice loss of details, as in STDC"),
    "DiceLoss": Entry(
        "seg_train.losses.dice:DiceLoss", "overlap of predicted and true areas, per class or generalized"
    ),
    "FocalLoss": Entry("seg_train.losses.focal:FocalLoss", "cross entropy that down-weights easy pixels"),
    "FocalTverskyLoss": Entry("seg_train.losses.tversky:FocalTverskyLoss", "Tversky loss that focuses on hard classes"),
    "JaccardLoss": Entry("seg_train.losses.jaccard:JaccardLoss", "intersection over union of probabilities"),
    "LovaszLoss": Entry("seg_train.losses.lovasz:LovaszLoss", "Lovasz softmax or hinge: a convex surrogate of the IoU"),
    "OhemCrossEntropyLoss": Entry("seg_train.losses.ohem:OhemCrossEntropyLoss", "cross entropy over hard pixels only"),
    "TverskyLoss": Entry(
        "seg_train.losses.tversky:TverskyLoss", "overlap with factors for false positives and false negatives"
    ),
}

OPTIMIZERS = {
    **{
        # all but SparseAdam and Muon, see `seg_train.optim.optimizers.REFUSED`
        name: Entry(f"torch.optim:{name}", "torch.optim")
        for name in (
            "ASGD",
            "Adadelta",
            "Adafactor",
            "Adagrad",
            "Adam",
            "AdamW",
            "Adamax",
            "LBFGS",
            "NAdam",
            "RAdam",
            "RMSprop",
            "Rprop",
            "SGD",
        )
    },
    "Padam": Entry("seg_train.optim.padam:Padam", "partially adaptive Adam; works with learning rates of SGD"),
}

SCHEDULERS = {
    **{
        name: Entry(f"torch.optim.lr_scheduler:{name}", "torch.optim.lr_scheduler")
        for name in (
            "ConstantLR",
            "CosineAnnealingLR",
            "CosineAnnealingWarmRestarts",
            "CyclicLR",
            "ExponentialLR",
            "LambdaLR",
            "LinearLR",
            "MultiStepLR",
            "MultiplicativeLR",
            "OneCycleLR",
            "PolynomialLR",
            "StepLR",
        )
    },
    # of torch too, with arguments that can be written in a config
    "ChainedScheduler": Entry(
        "seg_train.optim.schedulers:ChainedScheduler", "several schedulers, their factors multiplied"
    ),
    "ReduceLROnPlateau": Entry(
        "seg_train.optim.plateau:ReduceLROnPlateau", "lowers the learning rate when a score no longer improves"
    ),
    "SequentialLR": Entry("seg_train.optim.schedulers:SequentialLR", "one scheduler after the other"),
}

LOGGERS = {
    "mlflow": Entry("seg_train.loggers.mlflow:MLflowLogger", "MLflow, on a server or in a local store"),
    "tensorboard": Entry("seg_train.loggers.tensorboard:TensorBoardLogger", "scalars, images, hparams"),
    "wandb": Entry("seg_train.loggers.wandb:WandbLogger", "Weights & Biases, online or offline"),
    "local": Entry("seg_train.loggers.local:LocalLogger", "files in the run folder: metrics, plots, snapshots"),
}

COMMANDS = {
    "config": Entry("seg_train.commands.config:CONFIG", "create, show and check configs"),
    "eval": Entry("seg_train.commands.eval:EVAL", "score a model on a dataset"),
    "train": Entry("seg_train.commands.train:TRAIN", "train a network from a config"),
}
