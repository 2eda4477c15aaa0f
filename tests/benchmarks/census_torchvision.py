"""The census's networks of torchvision and timm: a small one or two of each family."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from census_networks import Network, images, larger, of_images, videos
from torch import nn
from vision import declare_operators

CLASSIFYING = {  # name: pixels a side
    "alexnet": 64, "convnext_tiny": 32, "densenet121": 32, "efficientnet_b0": 32, "efficientnet_v2_s": 32,
    "googlenet": 32, "inception_v3": 80, "mnasnet0_5": 32, "mobilenet_v2": 32,
    "mobilenet_v3_small": 32, "regnet_x_400mf": 32, "regnet_y_400mf": 32, "resnet18": 32, "resnet50": 32,
    "resnext50_32x4d": 32, "wide_resnet50_2": 32, "shufflenet_v2_x0_5": 32, "squeezenet1_1": 32, "swin_t": 32,
    "swin_v2_t": 64, "vgg11_bn": 32, "vit_b_32": 64,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
    "vit_b_32": {"image_size": 64},
}
SEGMENTING = {"deeplabv3_mobilenet_v3_large": 64, "fcn_resnet50": 32, "lraspp_mobilenet_v3_large": 64}
DETECTING = {
    "fasterrcnn_mobilenet_v3_large_fpn": 64,
    "retinanet_resnet50_fpn": 64,
    "ssdlite320_mobilenet_v3_large": 96,
}
VIDEO = {"r3d_18": (4, 32), "r2plus1d_18": (4, 32)}

TIMM: dict[str, int | tuple[int, dict[str, Any]]] = {  # name: pixels a side, and options
    "beit_base_patch16_224": (32, {"embed_dim": 96, "depth": 2, "num_heads": 4}),
    "botnet26t_256": 64, "halonet26t": 256, "lambda_resnet26t": 64, "gernet_s": 32, "mobileone_s0": 32,
    "repvgg_a0": 32, "regnetz_b16": 32, "cait_xxs24_224": (32, {"depth": 2}), "coat_lite_tiny": 32,
    "convit_tiny": (32, {"depth": 3, "local_up_to_layer": 2}), "convmixer_768_32": 56, "convnextv2_atto": 32,
    "crossvit_9_240": 120, "cs3darknet_s": 32, "cspresnet50": 32, "davit_tiny": 32,
    "deit3_small_patch16_224": (32, {"depth": 2}), "deit_tiny_patch16_224": (32, {"depth": 3}),
    "densenetblur121d": 32, "dla34": 32, "dpn48b": 32, "edgenext_xx_small": 64, "efficientformer_l1": 224,
    "efficientformerv2_s0": 64, "efficientnet_lite0": 32, "efficientnet_cc_b0_4e": 32, "mixnet_s": 32,
    "efficientvim_m1": 64, "efficientvit_b0": 32, "efficientvit_m0": 64,
    "eva02_tiny_patch14_224": (28, {"depth": 2}), "fasternet_t0": 32, "fastvit_t8": 64,
    "focalnet_tiny_srf": 32,
    "gcvit_xxtiny": 64, "ghostnet_050": 32, "ghostnetv2_100": 64, "hardcorenas_a": 32, "hgnetv2_b0": 32,
    "hiera_tiny_224": 64, "hrnet_w18_small": 32, "inception_next_atto": 32, "legacy_seresnet18": 32,
    "legacy_xception": 32, "levit_128s": 64, "mambaout_femto": 32, "coatnet_pico_rw_224": 64,
    "maxvit_pico_rw_256": 64, "caformer_s18": 32, "poolformer_s12": 32, "gmlp_ti16_224": 32,
    "mixer_s32_224": 64, "resmlp_12_224": 32, "lcnet_050": 32,
    "mobilenetv4_conv_small_035": 32, "mobilevit_xxs": 64, "mobilevitv2_050": 64, "mvitv2_tiny": 32,
    "nest_tiny": 32, "nextvit_small": 32, "nf_regnet_b0": 32, "nf_resnet26": 32, "test_nfnet": 32,
    "pit_ti_224": 64, "pvt_v2_b0": 32, "rdnet_tiny": 32, "regnety_002": 32, "repghostnet_050": 32,
    "repvit_m0_9": 32, "res2net50_26w_4s": 32, "resnest14d": 32, "resnetv2_50x1_bit": 32, "rexnet_100": 32,
    "selecsls42b": 32, "sequencer2d_s": 32, "shvit_s1": 64, "skresnet18": 32, "starnet_s050": 32,
    "swiftformer_xs": 32, "swinv2_cr_tiny_224": 64, "tiny_vit_5m_224": 64, "tnt_s_patch16_224": (32,
    {"depth": 2}),
    "tresnet_m": 32, "twins_pcpvt_small": 64, "visformer_tiny": 64, "samvit_base_patch16_224": (
        64, {"embed_dim": 96, "depth": 2, "num_heads": 4, "global_attn_indexes": (1,)}
    ),
    "vit_relpos_small_patch16_224": (32, {"depth": 2}), "vit_tiny_r_s16_p8_224": (32, {"depth": 2}),
    "vitamin_small_224": 64, "volo_d1_224": 32, "vovnet39a": 32, "xception41": 32, "xcit_nano_12_p16_224": 32,
}  # fmt: skip


def of_torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        declare_operators()
        import torchvision

        return torchvision.models.get_model(name, weights=None, **options)

    return build


def small_maxvit() -> nn.Module:
    declare_operators()
    kind = importlib.import_module("torchvision.models.maxvit").MaxVit
    return kind((64, 64), 32, 2, [32, 48, 64, 96], [1, 1, 2, 1], 16, 0.0, num_classes=10)


def backbone_of(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return of_torchvision(name, weights_backbone=None)().backbone

    return build


def of_timm(name: str, side: int, options: dict[str, Any]) -> Callable[[], nn.Module]:
    """At `side` pixels, where the network is built for a size."""

    def build() -> nn.Module:
        declare_operators()
        import timm

        try:
            return timm.create_model(name, num_classes=10, img_size=side, **options)
        except TypeError:
            return timm.create_model(name, num_classes=10, **options)

    return build


def torchvision_networks() -> list[Network]:
    found = {
        name: (of_torchvision(name, num_classes=10, **OPTIONS.get(name, {})), side)
        for name, side in CLASSIFYING.items()
    }
    found |= {
        name: (of_torchvision(name, weights_backbone=None, num_classes=5), side)
        for name, side in SEGMENTING.items()
    }
    found |= {f"{name}.backbone": (backbone_of(name), side) for name, side in DETECTING.items()}
    found["MaxVit"] = (small_maxvit, 64)
    out = of_images("torchvision", found)
    for name, (frames, side) in VIDEO.items():
        build = of_torchvision(name, num_classes=10)
        out.append(Network("torchvision", name, build, videos, ((frames, side), (2 * frames, side))))
    return out


def timm_networks() -> list[Network]:
    out = []
    for name, given in TIMM.items():
        side, options = given if isinstance(given, tuple) else (given, {})
        out.append(Network("timm", name, of_timm(name, side, options), images, (side, larger(side))))
    return out
