"""What this package brings, as data: models with their facts and weights, backbones, ways of predicting, commands.

No torch here: listing names is instant. Everything that shows models (`list_models`, the weights enums, the public
names of the package, `seg models`, torch.hub) is made from these tables.
"""

from seg_core.catalog import Entry, ModelEntry, WeightsEntry

__all__ = ["BACKBONES", "COMMANDS", "MODELS", "PREDICTORS"]

# what torchvision's models were trained with
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

MODELS: dict[str, ModelEntry] = {
    "enet": ModelEntry(
        "seg_models.networks.enet:enet",
        "small and fast; trains from scratch on a CPU",
        family="ENet",
        params=366_148,
        macs=4_159_045_632,
    ),
    "fcn_resnet34": ModelEntry(
        "seg_models.networks.fcn:fcn_resnet34",
        "fully convolutional head on a dilated ResNet-34",
        family="FCN",
        backbone="resnet34",
        params=21_877_461,
        macs=185_670_303_744,
        outputs=("out", "aux"),
        forms=("paper", "torchvision"),
    ),
    "fcn_resnet50": ModelEntry(
        "seg_models.networks.fcn:fcn_resnet50",
        "fully convolutional head on a dilated ResNet-50",
        family="FCN",
        backbone="resnet50",
        params=32_957_013,
        macs=276_735_983_616,
        outputs=("out", "aux"),
        forms=("paper", "torchvision"),
        weights_enum="FCN_ResNet50_Weights",
        weights={
            "COCO_WITH_VOC_LABELS_V1": WeightsEntry(
                url="https://download.pytorch.org/models/fcn_resnet50_coco-1167a1af.pth",
                hash="1167a1af",
                verified="prefix",
                label_set="VOC",
                mean=_IMAGENET_MEAN,
                std=_IMAGENET_STD,
                resize={"shorter_side": 520},
                form="torchvision",
                dialect="torchvision",
                aux=True,
                meta={
                    "data": "COCO train2017, the pictures with classes of VOC",
                    "num_params": 35_322_218,
                    "macs": 296_107_376_640,
                    "metrics": {"miou": 0.605, "acc": 0.914},
                    "protocol": "COCO val2017 with the labels of VOC, shorter side 520, as published",
                    "source": "https://github.com/pytorch/vision/tree/main/references/segmentation#fcn_resnet50",
                    "licence": "BSD-3-Clause (torchvision)",
                },
            ),
        },
        default_weights="COCO_WITH_VOC_LABELS_V1",
    ),
}

BACKBONES: dict[str, Entry] = {
    f"resnet{depth}": Entry(f"seg_models.backbones.resnet:resnet{depth}", f"ResNet-{depth} of torchvision")
    for depth in (18, 34, 50, 101)
}

PREDICTORS: dict[str, Entry] = {
    "whole": Entry("seg_models.inference.whole:predict_whole", "each picture in one pass"),
}

COMMANDS: dict[str, Entry] = {
    "models": Entry("seg_models.commands.models:MODELS_COMMAND", "list the models, show one and its weights"),
    "predict": Entry("seg_models.commands.predict:PREDICT", "predict label maps of pictures"),
}
