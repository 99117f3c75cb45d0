"""The public names of seg_core and where each lives."""

EXPORTS = {
    name: f"seg_core.{module}:{name}"
    for module, names in {
        "argmax": ["argmax_labels"],
        "augment": ["SegmentationAugment"],
        "class_balance": ["PixelCounts", "class_weights", "count_pixels"],
        "conversion": ["label_map_between", "list_conversions"],
        "drawing": ["colorize", "overlay"],
        "errors": [
            "ConfigError",
            "CorruptFileError",
            "DatasetNotFoundError",
            "InvalidArgumentError",
            "LabelOutOfRangeError",
            "MissingDependencyError",
            "UnknownNameError",
            "UserError",
        ],
        "figures": ["draw_snapshots", "exhibit_figure", "plot_confusion_matrix", "plot_running_metrics"],
        "files.images": ["read_image", "read_mask"],
        "label_map": ["IGNORE", "LabelMap"],
        "metadata": ["DatasetMetadata", "list_label_sets", "resolve_metadata"],
        "metrics.metric_store": ["MetricStore", "scores_from_confusion"],
        "metrics.protocol": ["EvaluationProtocol"],
        "model_file": ["BuildSpec", "ModelInfo", "load_model", "read_model_info", "save_model"],
        "preprocessing": ["Preprocessing"],
        "randomness": ["sample_generator", "seed"],
        "registry": ["Registry"],
        "transforms.crop": ["SegmentationTransform"],
        "weights": ["Weights", "WeightsEnum"],
    }.items()
    for name in names
}
