"""The public names of seg_models and where each is defined; builders and weights enums come from the catalog."""

from seg_models.catalog import MODELS

EXPORTS = {
    name: f"{module}:{name}"
    for module, names in {
        "seg_core.model_files.model_file": ["load_model", "save_model"],
        "seg_models.factory": [
            "create",
            "get_backbone",
            "get_model",
            "get_model_builder",
            "get_model_weights",
            "get_weight",
            "list_backbones",
            "list_models",
        ],
        "seg_models.exporting.export": ["ExportReport", "export"],
        "seg_models.exporting.load": ["load_exported"],
        "seg_models.inference.augmented": ["predict_tta"],
        "seg_models.inference.labels": ["labels_from_logits"],
        "seg_models.inference.large": ["FilePrediction"],
        "seg_models.inference.prediction": ["Prediction"],
        "seg_models.inference.predictor": ["Predictor"],
        "seg_models.inference.tiled": ["predict_tiled", "tiled_blocks"],
        "seg_models.inference.whole": ["predict_labels", "predict_whole"],
        "seg_models.speed.benchmark": ["benchmark"],
        "seg_models.speed.benchmark_report": ["BenchmarkReport"],
        "seg_models.speed.network": ["OptimizedNetwork"],
        "seg_models.speed.optimize": ["optimize"],
        "seg_models.speed.report": ["OptimizationReport"],
    }.items()
    for name in names
}
EXPORTS |= {name: entry.target for name, entry in MODELS.items() if not entry.any_backbone}
EXPORTS |= {
    entry.weights_enum: f"seg_models.pretrained.enums:{entry.weights_enum}"
    for entry in MODELS.values()
    if entry.weights_enum is not None
}
