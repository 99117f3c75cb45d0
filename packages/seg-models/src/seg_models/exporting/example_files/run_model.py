"""Segments an image by an exported model: python run_model.py IMAGE LABELS.png

It needs onnxruntime, numpy and Pillow. Classes, preprocessing and thresholds are in the ONNX file, under the key "seg"
of its metadata; another file of the same kind is given by --model.
"""

import argparse
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

MODEL = "model.onnx"


def read_image(path):
    """Returns an image as uint8 (H, W, 3), red, green and blue, upright."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith(("I", "F")):
        sys.exit(f"{path} has more than 8 bits per channel; convert it to 8 bits first")
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def input_size(seg, height, width):
    """Returns the (height, width) to which the model's preprocessing resizes an image."""
    if seg["size"]:  # a file for one size
        return seg["size"]
    steps = seg["preprocessing"]
    if steps["size"]:
        return steps["size"]
    if steps["scale"]:
        return max(1, round(height * steps["scale"])), max(1, round(width * steps["scale"]))
    if steps["shorter_side"]:
        shorter = min(height, width)
        return height * steps["shorter_side"] // shorter, width * steps["shorter_side"] // shorter
    if steps["longer_side"]:
        longer = max(height, width)
        return max(1, height * steps["longer_side"] // longer), max(1, width * steps["longer_side"] // longer)
    return height, width


def resize_axis(pixels, axis, length):
    """Returns uint8 pixels with an axis resized bilinearly, averaging what it shrinks.

    The weights are integers of 16 bits, as torch's are, so that every pixel is equal to what seg predict computes.
    """
    old = pixels.shape[axis]
    if old == length:
        return pixels
    scale = old / length
    reach = max(scale, 1)
    center = (np.arange(length) + 0.5) * scale
    start = np.maximum((center - reach + 0.5).astype(int), 0)
    stop = np.minimum((center + reach + 0.5).astype(int), old)
    places = start[:, None] + np.arange((stop - start).max())
    weights = np.maximum(0, 1 - np.abs(places - center[:, None] + 0.5) / reach) * (places < stop[:, None])
    weights /= weights.sum(1, keepdims=True)
    bits = next((b for b in range(22) if weights.max() * 2 ** (b + 1) + 0.5 >= 2**15), 22)
    weights = (weights * 2**bits + 0.5).astype(np.int32)
    total = 2 ** (bits - 1)
    for place, weight in zip(np.minimum(places, old - 1).T, weights.T, strict=True):
        total = total + pixels.take(place, axis) * weight.reshape((-1, 1, 1) if axis == 0 else (-1, 1))
    return np.clip(total >> bits, 0, 255).astype(np.uint8)


def to_input(seg, pixels):
    """Returns the model's input, float32 (1, 3, H, W), of uint8 pixels (H, W, 3); a small image is padded."""
    values = pixels.astype(np.float32)
    mean, std = (np.array(seg["preprocessing"][name]) for name in ("mean", "std"))
    padding = 255 * mean
    if not seg["normalizes"]:
        values = values * (1 / (255 * std)).astype(np.float32) - (mean / std).astype(np.float32)
        padding = np.zeros(3)
    height, width = values.shape[:2]
    padded = np.empty((max(height, seg["min_size"]), max(width, seg["min_size"]), 3), np.float32)
    padded[:] = padding
    padded[:height, :width] = values
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None])


def resize_logits(logits, size):
    """Returns logits (K, h, w) resized bilinearly to `size`, pixel centers aligned."""
    for axis, length in ((2, size[1]), (1, size[0])):
        old = logits.shape[axis]
        if old == length:
            continue
        place = np.maximum((np.arange(length, dtype=np.float32) + np.float32(0.5)) * np.float32(old / length) - 0.5, 0)
        low = np.minimum(place.astype(np.int64), old - 1)
        high = np.minimum(low + 1, old - 1)
        share = (place - low).astype(np.float32)
        share = share[:, None] if axis == 1 else share
        logits = logits.take(low, axis) * (1 - share) + logits.take(high, axis) * share
    return logits


def segment(session, seg, pixels):
    """Returns ids (H, W) of uint8 pixels (H, W, 3), 0 and 1 of a binary task; of a multilabel task bool (K, H, W)."""
    height, width = input_size(seg, *pixels.shape[:2])
    resized = resize_axis(resize_axis(pixels, 1, width), 0, height)
    logits = session.run(["logits"], {"images": to_input(seg, resized)})[0][0, :, :height, :width]
    logits = resize_logits(logits, pixels.shape[:2])
    if seg["task"] == "multiclass":
        return logits.argmax(0).astype(np.uint8 if len(logits) <= 256 else np.uint16)
    limits = np.array([math.log(t / (1 - t)) for t in seg["thresholds"]], np.float32)
    planes = logits > limits[:, None, None]
    return planes if seg["task"] == "multilabel" else planes[0].astype(np.uint8)


def save_labels(path, labels, colors):
    """Writes ids as PNG: 8-bit ids with a color each, larger ones as 16-bit gray."""
    image = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        image.putpalette([value for color in colors for value in color])
    image.save(path)
    print(f"wrote {path}")


def main():
    """Reads the arguments, and segments."""
    parser = argparse.ArgumentParser(description="Segments an image by an exported model.")
    parser.add_argument("image", help="JPEG, PNG or another image of 8 bits per channel")
    parser.add_argument("labels", type=Path, help="PNG to write; of a multilabel task one per class is written")
    parser.add_argument(
        "--model", default=Path(__file__).resolve().parent / MODEL, help="ONNX file (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if arguments.labels.suffix.lower() != ".png":
        parser.error(f"{arguments.labels} must end in .png, which keeps the ids")

    session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
    text = session.get_modelmeta().custom_metadata_map.get("seg")
    if text is None:
        sys.exit(f"{arguments.model} does not describe its classes; export it by seg export")
    seg = json.loads(text)
    classes = seg["metadata"]
    if "channels" in classes:
        names = ", ".join(classes["channels"]["names"])
        sys.exit(f"{arguments.model} is for images of the channels {names}; this script reads colors of 8 bits")
    labels = segment(session, seg, read_image(arguments.image))

    if seg["task"] == "multilabel":
        for name, color, plane in zip(classes["labels"], classes["colors"], labels, strict=True):
            file_name = re.sub(r"\W+", "_", name)
            save_labels(
                arguments.labels.with_stem(f"{arguments.labels.stem}_{file_name}"),
                plane.astype(np.uint8),
                [(0, 0, 0), color],
            )
        shares = labels.mean((1, 2))
    else:
        is_binary = seg["task"] == "binary"
        save_labels(arguments.labels, labels, ([(0, 0, 0)] if is_binary else []) + classes["colors"])
        counts = np.bincount(labels.ravel(), minlength=len(classes["labels"]) + is_binary)
        shares = counts[int(is_binary) :] / labels.size
    for index in np.argsort(-shares, kind="stable"):
        if shares[index]:
            print(f"{shares[index]:7.2%}  {classes['labels'][index]}")


if __name__ == "__main__":
    main()
