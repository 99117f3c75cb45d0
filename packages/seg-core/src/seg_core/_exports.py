"""The public names of seg_core and where each lives."""

EXPORTS = {
    name: f"seg_core.{module}:{name}"
    for module, names in {
        "metrics.argmax": ["argmax_labels", "threshold_labels"],
        "transforms.augment": ["SegmentationAugment"],
        "metrics.class_weights": ["PixelCounts", "class_weights", "count_pixels"],
        "labels.conversion": ["label_map_between", "list_conversions"],
        "plots.overlay": ["colorize", "overlay"],
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
        "plots.figures": ["draw_snapshots", "exhibit_figure", "plot_confusion_matrix", "plot_running_metrics"],
        "files.images": ["read_image", "read_mask"],
        "labels.label_map": ["IGNORE", "LabelMap"],
        "labels.channels": ["ImageChannels"],
        "labels.metadata": ["DatasetMetadata", "list_label_sets", "resolve_metadata"],
        "metrics.metric_store": ["MetricStore"],
        "metrics.scores": ["scores_from_confusion"],
        "metrics.protocol": ["EvaluationProtocol"],
        "model_files.build_spec": ["BuildSpec"],
        "model_files.model_file": ["load_model", "read_model_info", "save_model"],
        "model_files.reading": ["ModelInfo"],
        "own_code": ["import_code"],
        "transforms.preprocessing": ["Preprocessing"],
        "randomness": ["sample_generator", "seed"],
        "registry": ["Registry"],
        "transforms.crop": ["SegmentationTransform"],
        "model_files.weights": ["Weights", "WeightsEnum"],
    }.items()
    for name in names
}
