"""Networks of torchvision and timm on small inputs, beside a torch that has no operators of torchvision."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable

import torch
from torch import nn

OPERATORS = (  # torchvision describes these when it is imported, and cannot where they are not known
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []


def declare_operators() -> None:
    """Name torchvision's operators, so that it can be imported where its own library does not load."""
    if _declared:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in OPERATORS:
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            library.define(schema)
    _declared.append(library)


def versions() -> str:
    return ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchvision", "timm")
    )


def of_torchvision(name: str, **options) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        declare_operators()
        import torchvision

        return torchvision.models.get_model(name, weights=None, **options)

    return build


def of_timm(name: str, **options) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        declare_operators()
        import timm

        return timm.create_model(name, pretrained=False, num_classes=10, **options)

    return build


TEN = {"num_classes": 10}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    # name: how to build it, pixels a side
    "shufflenet_v2_x0_5": (of_torchvision("shufflenet_v2_x0_5", **TEN), 32),
    "shufflenet_v2_x1_0": (of_torchvision("shufflenet_v2_x1_0", **TEN), 32),
    "mobilenet_v2": (of_torchvision("mobilenet_v2", **TEN), 32),
    "mobilenet_v3_small": (of_torchvision("mobilenet_v3_small", **TEN), 32),
    "mnasnet0_5": (of_torchvision("mnasnet0_5", **TEN), 32),
    "efficientnet_b0": (of_torchvision("efficientnet_b0", **TEN), 32),
    "regnet_y_400mf": (of_torchvision("regnet_y_400mf", **TEN), 32),
    "convnext_tiny": (of_torchvision("convnext_tiny", **TEN), 32),
    "swin_t": (of_torchvision("swin_t", **TEN), 64),
    "swin_v2_t": (of_torchvision("swin_v2_t", **TEN), 64),
    "vit_b_32": (of_torchvision("vit_b_32", image_size=64, **TEN), 64),
    "densenet121": (of_torchvision("densenet121", **TEN), 32),
    "googlenet": (of_torchvision("googlenet", aux_logits=False, init_weights=False, **TEN), 48),
    "inception_v3": (of_torchvision("inception_v3", aux_logits=False, init_weights=False, **TEN), 80),
    "resnet18": (of_torchvision("resnet18", **TEN), 32),
    "resnext50_32x4d": (of_torchvision("resnext50_32x4d", **TEN), 32),
    "vgg11_bn": (of_torchvision("vgg11_bn", **TEN), 32),
    "squeezenet1_1": (of_torchvision("squeezenet1_1", **TEN), 32),
    "ghostnet_100": (of_timm("ghostnet_100"), 32),
    "repvgg_a0": (of_timm("repvgg_a0"), 32),
    "cspresnet50": (of_timm("cspresnet50"), 64),
    "cspdarknet53": (of_timm("cspdarknet53"), 64),
    "res2net50_26w_4s": (of_timm("res2net50_26w_4s"), 32),
    "hrnet_w18_small": (of_timm("hrnet_w18_small"), 64),
    "deit_tiny_patch16_224": (of_timm("deit_tiny_patch16_224", img_size=64), 64),
    "mixer_s32_224": (of_timm("mixer_s32_224", img_size=64), 64),
    "dla34": (of_timm("dla34"), 64),
    "selecsls42b": (of_timm("selecsls42b"), 64),
    "vovnet39a": (of_timm("vovnet39a"), 64),
    "fasternet_t0": (of_timm("fasternet_t0"), 64),
    "mobilevit_xxs": (of_timm("mobilevit_xxs"), 64),
    "resnest14d": (of_timm("resnest14d"), 64),
}
