"""The census's networks of segmentation-models-pytorch, MONAI, Ultralytics, pytorchcv and others."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from census_networks import Network, grey, of_images, volumes
from torch import nn
from vision import declare_operators

DECODERS = (
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN",
    "UPerNet", "Segformer",
)  # fmt: skip
YOLOS = {
    "yolov5n": 64,
    "yolov8n": 64,
    "yolov8n-seg": 64,
    "yolo11n": 64,
    "yolo11n-cls": 64,
    "yolov8n-ghost": 64,
}
PYTORCHCV = {
    "resnet16": 32, "preresnet16": 32, "diaresnet12": 32, "ibn_resnet50": 32, "bam_resnet18": 32,
    "cbam_resnet18": 32, "sharesnet18": 32, "dicenet_wd5": 64, "espnetv2_wd2": 64, "vovnet27s": 32,
    "sqnxt23_w1": 32, "shufflenet_g3_wd4": 32, "menet108_8x1_g3": 64, "mobilenet_wd4": 32, "igcv3_wd4": 32,
    "peleenet": 64, "hardnet39ds": 32, "fbnet_cb": 32, "resnet20_cifar10": 32, "preresnet20_cifar10": 32,
    "pyramidnet110_a48_cifar10": 16, "densenet40_k12_cifar10": 16, "nin_cifar10": 32,
    "xdensenet40_2_k24_bc_cifar10": 16,
    "wrn16_10_cifar10": 16, "ror3_56_cifar10": 16, "shakeshakeresnet20_2x16d_cifar10": 32,
    "diracnet18v2": 32, "octresnet10_ad2": 64, "squeezeresnet_v1_1": 64,
}  # fmt: skip


def smp(decoder: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        declare_operators()
        library = importlib.import_module("segmentation_models_pytorch")
        encoder = "mit_b0" if decoder == "Segformer" else "resnet18"
        return getattr(library, decoder)(encoder, encoder_weights=None, classes=3)

    return build


def monai(name: str, *args: Any, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return getattr(importlib.import_module("monai.networks.nets"), name)(*args, **options)

    return build


def yolo(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        declare_operators()
        tasks = importlib.import_module("ultralytics.nn.tasks")
        kind = {"seg": "SegmentationModel", "cls": "ClassificationModel"}.get(
            name.partition("-")[2], "DetectionModel"
        )
        return getattr(tasks, kind)(f"{name}.yaml", verbose=False)

    return build


def pooled(model: nn.Module) -> nn.Module:
    """The model with a mean over what is left at the end, in place of one over the 7×7 of large images."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AvgPool2d) and child.kernel_size in range(7, 15):
                setattr(module, name, nn.AdaptiveAvgPool2d(1))
    return model


def pytorchcv(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return pooled(importlib.import_module("pytorchcv.model_provider").get_model(name, pretrained=False))

    return build


def efficientnet() -> nn.Module:
    return importlib.import_module("efficientnet_pytorch").EfficientNet.from_name(
        "efficientnet-b0", num_classes=10
    )


def pretrained(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        declare_operators()
        return pooled(importlib.import_module("pretrainedmodels").__dict__[name](pretrained=None))

    return build


def monai_networks() -> list[Network]:
    flat = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
    two = {
        "UNet": monai("UNet", **flat, channels=(8, 16, 32), strides=(2, 2), num_res_units=1),
        "AttentionUnet": monai("AttentionUnet", **flat, channels=(8, 16, 32), strides=(2, 2)),
        "BasicUNet": monai("BasicUNet", **flat, features=(8, 8, 16, 16, 32, 8)),
        "SegResNet": monai("SegResNet", **flat, init_filters=8),
        "DynUNet": monai("DynUNet", **flat, kernel_size=[3, 3, 3], strides=[1, 2, 2],
        upsample_kernel_size=[2, 2]),
        "SwinUNETR": monai("SwinUNETR", **flat, feature_size=12, depths=(1, 1, 1, 1)),
        "UNETR": monai("UNETR", 1, 2, img_size=32, spatial_dims=2, feature_size=8, hidden_size=48,
        mlp_dim=96, num_heads=4),
        "FlexibleUNet": monai("FlexibleUNet", 1, 2, "efficientnet-b0", pretrained=False, spatial_dims=2),
        "DenseNet": monai("DenseNet", **flat, init_features=8, growth_rate=8, block_config=(2, 2)),
        "EfficientNetBN": monai("EfficientNetBN", "efficientnet-b0", pretrained=False, spatial_dims=2,
        in_channels=1, num_classes=3),
    }  # fmt: skip
    out = [
        Network("monai", name, build, grey, (64 if name in ("FlexibleUNet", "SwinUNETR") else 32, 96))
        for name, build in two.items()
    ]
    solid = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
    three = {
        "UNet 3d": monai("UNet", **solid, channels=(4, 8, 16), strides=(2, 2), num_res_units=2),
        "MedNeXt 3d": monai("MedNeXt", init_filters=8, **solid),
    }
    return out + [Network("monai", name, build, volumes, (16, 32)) for name, build in three.items()]


def image_networks() -> list[Network]:
    return [
        *of_images("smp", {name: (smp(name), 128 if name == "PAN" else 64) for name in DECODERS}),
        *monai_networks(),
        *of_images("ultralytics", {name: (yolo(name), side) for name, side in YOLOS.items()}),
        *of_images("pytorchcv", {name: (pytorchcv(name), side) for name, side in PYTORCHCV.items()}),
        *of_images("efficientnet_pytorch", {"efficientnet-b0": (efficientnet, 32)}),
        *of_images(
            "pretrainedmodels", {name: (pretrained(name), 64) for name in ("bninception", "se_resnet50")}
        ),
    ]
