"""The topics, by their name on the command line: `"module:attribute"` of their cases."""

TOPICS = {
    "confusion-matrix": "benchmarks.topics.confusion_matrix:CASES",
    "train-pipeline": "benchmarks.topics.train_pipeline:CASES",
    "label-remap": "benchmarks.topics.label_remap:CASES",
    "mask-scan": "benchmarks.topics.mask_scan:CASES",
    "argmax": "benchmarks.topics.argmax:CASES",
    "labels": "benchmarks.topics.labels:CASES",
    "sliding-window": "benchmarks.topics.sliding_window:CASES",
    "tta": "benchmarks.topics.tta:CASES",
    "losses": "benchmarks.topics.losses:CASES",
    "optimizers": "benchmarks.topics.optimizers:CASES",
    "networks": "benchmarks.topics.networks:CASES",
    "optimize": "benchmarks.topics.optimizing:CASES",
    "training": "benchmarks.topics.training:CASES",
    "import": "benchmarks.topics.importing:CASES",
}
