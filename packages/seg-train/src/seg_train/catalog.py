"""What seg-train brings, by name: losses, optimizers, LR schedulers, loggers and the command. No torch in here."""

from seg_core.catalog import Entry

__all__ = ["COMMANDS", "LOGGERS", "LOSSES", "OPTIMIZERS", "SCHEDULERS"]

LOSSES = {
    "BoundaryLoss": Entry(
        "seg_train.losses.boundary:BoundaryLoss", "balanced cross entropy on boundaries, as in PIDNet"
    ),
    "CombinedLoss": Entry("seg_train.losses.combined:CombinedLoss", "several losses, each with a factor"),
    "CrossEntropyLoss": Entry(
        "seg_train.losses.cross_entropy:CrossEntropyLoss", "cross entropy over pixels, with class weights"
    ),
    "DetailLoss": Entry("seg_train.losses.boundary:DetailLoss", "cross entropy and Dice on details, as in STDC"),
    "DiceLoss": Entry(
        "seg_train.losses.dice:DiceLoss", "overlap of predicted and true areas, per class or generalized"
    ),
    "FocalLoss": Entry("seg_train.losses.focal:FocalLoss", "cross entropy that pays less for pixels that are easy"),
    "FocalTverskyLoss": Entry(
        "seg_train.losses.tversky:FocalTverskyLoss", "Tversky loss that pays more for classes that are hard"
    ),
    "JaccardLoss": Entry("seg_train.losses.jaccard:JaccardLoss", "intersection over union, from probabilities"),
    "LovaszLoss": Entry("seg_train.losses.lovasz:LovaszLoss", "Lovasz-softmax: a convex surrogate of the IoU"),
    "OhemCrossEntropyLoss": Entry(
        "seg_train.losses.ohem:OhemCrossEntropyLoss", "cross entropy over the pixels that are hard"
    ),
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
    "Padam": Entry("seg_train.optim.padam:Padam", "Adam with a part of its denominator; learns at SGD's rates"),
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
    # torch's too, in a form that a config can hold
    "ChainedScheduler": Entry("seg_train.optim.schedulers:ChainedScheduler", "schedulers whose factors multiply"),
    "ReduceLROnPlateau": Entry("seg_train.optim.plateau:ReduceLROnPlateau", "lower when a score no longer improves"),
    "SequentialLR": Entry("seg_train.optim.schedulers:SequentialLR", "one scheduler after the other"),
}

LOGGERS = {
    "tensorboard": Entry("seg_train.loggers.tensorboard:TensorBoardLogger", "scalars, images, hparams"),
    "wandb": Entry("seg_train.loggers.wandb:WandbLogger", "Weights & Biases, online or offline"),
    "local": Entry("seg_train.loggers.local:LocalLogger", "files in the run folder: metrics, plots, snapshots"),
}

COMMANDS = {
    "config": Entry("seg_train.commands.config:CONFIG", "begin, show and check configs"),
    "eval": Entry("seg_train.commands.eval:EVAL", "score a model on a dataset"),
    "train": Entry("seg_train.commands.train:TRAIN", "train a network from a config"),
}
