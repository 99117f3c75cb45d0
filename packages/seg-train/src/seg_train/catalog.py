"""What seg-train brings, by name: losses, optimizers, LR schedules, loggers and the command. No torch in here."""

from seg_core.catalog import Entry

__all__ = ["COMMANDS", "LOGGERS", "LOSSES", "OPTIMIZERS", "SCHEDULES"]

LOSSES = {
    "CrossEntropyLoss": Entry(
        "seg_train.losses.cross_entropy:CrossEntropyLoss", "cross entropy over pixels, with class weights"
    ),
}

# Optimizers of torch that work from gradients alone: LBFGS wants a closure, SparseAdam sparse gradients, and Muon
# takes matrices only.
OPTIMIZERS = {
    name: Entry(f"torch.optim:{name}", "torch.optim")
    for name in (
        "ASGD",
        "Adadelta",
        "Adafactor",
        "Adagrad",
        "Adam",
        "AdamW",
        "Adamax",
        "NAdam",
        "RAdam",
        "RMSprop",
        "Rprop",
        "SGD",
    )
}

# Schedules of torch that are numbers alone: the others take functions, other schedules, or a score to watch.
SCHEDULES = {
    name: Entry(f"torch.optim.lr_scheduler:{name}", "torch.optim.lr_scheduler")
    for name in (
        "ConstantLR",
        "CosineAnnealingLR",
        "CosineAnnealingWarmRestarts",
        "CyclicLR",
        "ExponentialLR",
        "LinearLR",
        "MultiStepLR",
        "OneCycleLR",
        "PolynomialLR",
        "StepLR",
    )
}

LOGGERS = {
    "local": Entry("seg_train.loggers.local:LocalLogger", "files in the run folder: metrics, plots, snapshots"),
}

COMMANDS = {
    "train": Entry("seg_train.commands:TRAIN", "train a network from a config"),
}
