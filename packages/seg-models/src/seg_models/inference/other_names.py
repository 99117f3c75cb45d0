"""The words of other libraries (Ultralytics, torchvision, mmsegmentation) for predictors and predictions, explained."""

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["CALL", "CONSTRUCTOR", "PREDICTION", "PREDICTOR", "attribute_error"]

# attribute of a prediction elsewhere -> what to write here
PREDICTION = {
    "names": "use .metadata.labels, or .areas for the classes that occur",
    "classes": "use .metadata.labels, or .areas for the classes that occur",
    "palette": "use .metadata.colors",
    "masks": "use .mask(name) for one class, or .labels for the class ids of all pixels",
    "pred_sem_seg": "use .labels",
    "label_map": "use .labels",
    "ids": "use .labels",
    "conf": "use .scores, with Predictor(..., scores=True)",
    "confidence": "use .scores, with Predictor(..., scores=True)",
    "probs": "use .probability(name), with Predictor(..., logits=True)",
    "probabilities": "use .probability(name), with Predictor(..., logits=True)",
    "boxes": "there are none in semantic segmentation; use .polygons() for regions",
    "plot": "use .overlay(), an array, or .show()",
    "draw": "use .overlay(), an array, or .show()",
    "path": "use .source",
    "filename": "use .source",
    "orig_img": "use .image, which is RGB",
    "orig_shape": "use .labels.shape",
    "shape": "use .labels.shape",
    "to_json": 'use .polygons(), or .save("x.geojson")',
    "tojson": 'use .polygons(), or .save("x.geojson")',
    "save_txt": 'use .save("x.geojson")',
    "to_polygons": "use .polygons()",
    "cpu": "its arrays are those of numpy: use .labels",
    "numpy": "its arrays are those of numpy: use .labels",
}

_ON_CONSTRUCTION = "choose the device and the type on construction: Predictor(model, device=..., dtype=...)"

# attribute of a predictor elsewhere -> what to write here
PREDICTOR = {
    "predict": "call the predictor itself: predictor(source)",
    "forward": "call the predictor itself: predictor(source)",
    "track": "there is no tracking; call the predictor itself: predictor(source)",
    "predict_batch": "call the predictor with a list: predictor([a, b])",
    "names": "use .metadata.labels",
    "classes": "use .metadata.labels",
    "transforms": "use .preprocessing",
    "network": "use .model",
    "to": _ON_CONSTRUCTION,
    "cuda": _ON_CONSTRUCTION,
    "cpu": _ON_CONSTRUCTION,
    "half": _ON_CONSTRUCTION,
    "eval": "remove it: the network is in eval mode",
    "train": "train with seg_train.Trainer, or `seg train`",
    "val": "evaluate with `seg eval`",
}

# argument of a constructor elsewhere -> argument here
CONSTRUCTOR = {
    "conf": "use threshold={value}",
    "imgsz": "use preprocessing=Preprocessing(...) with the size, or tile={value}",
    "batch": "use batch_size={value}",
    "half": "use dtype='fp16'",
    "augment": "use tta={value}",
    "classes": "use only={value} to keep some classes, or metadata= for the names of all",
    "names": "use metadata={value}",
    "transforms": "use preprocessing=, a seg_core.Preprocessing",
    "verbose": "remove it",
}

# argument of a call elsewhere -> what to write here
CALL = {
    "save": 'save what the call returns: prediction.save("labels.png") or .save_overlay("overlay.png")',
    "save_txt": 'save what the call returns: prediction.save("regions.geojson")',
    "save_dir": "save what the call returns, to a path of your choice",
    "project": "save what the call returns, to a path of your choice",
    "show": "show what the call returns: prediction.show()",
    "stream": "call predictor.stream(source), which always gives an iterator",
    "on_error": "call predictor.stream(source, on_error=...)",
    "retina_masks": "remove it: labels have the size of the image",
    "vid_stride": "pass a generator that leaves out frames",
    **{name: f"in the constructor, Predictor(model, ...), {text}" for name, text in CONSTRUCTOR.items()},
    "verbose": "remove it",
    **{
        name: f"pass it to the constructor: Predictor(model, {name}={{value}})"
        for name in (
            *(
                "weights",
                "metadata",
                "preprocessing",
                "channels",
                "bands",
                "device",
                "dtype",
                "channel_order",
                "tile",
                "overlap",
                "blend",
                "optimize",
            ),
            *("tta", "batch_size", "scores", "logits", "threshold", "thresholds", "min_region", "only"),
            *("max_pixels", "allow_vrt", "all_frames"),
        )
    },
}


def attribute_error(advice: Mapping[str, str]) -> Callable[[Any, str], Any]:
    """Returns the `__getattr__` of a class whose error says what to write instead of attributes of other libraries."""

    def __getattr__(self: Any, name: str) -> Any:  # noqa: N807 - it becomes that method
        text = f"; {advice[name]}" if name in advice else ""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{text}", name=name, obj=self)

    return __getattr__
