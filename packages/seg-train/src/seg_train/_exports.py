"""The public names of seg_train and where each lives."""

EXPORTS = {
    "CrossEntropyLoss": "seg_train.losses.cross_entropy:CrossEntropyLoss",
    "Logger": "seg_train.loggers.base:Logger",
    "TrainConfig": "seg_train.config.schema:TrainConfig",
    "Trainer": "seg_train.trainer:Trainer",
    "boundary_targets": "seg_train.targets:boundary_targets",
    "class_weights": "seg_core.class_balance:class_weights",
    "detail_targets": "seg_train.targets:detail_targets",
    "evaluate": "seg_train.evaluation:evaluate",
    "load_config": "seg_train.config.load:load_config",
}
