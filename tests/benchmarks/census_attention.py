"""The census's networks of vit-pytorch and x-transformers, and those that hear."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from census_networks import VOCABULARY, Network, images, larger, seeded, sequences, waves, words
from torch import Tensor, nn

VIT = {"image_size": 32, "patch_size": 8, "num_classes": 5, "dim": 32, "depth": 2, "heads": 4, "mlp_dim": 56}
SEEING: dict[str, tuple[str, str, dict[str, Any]]] = {  # name: module, class, options
    "ViT": ("vit", "ViT", VIT | {"dim_head": 8}),
    "SimpleViT": ("simple_vit", "SimpleViT", VIT | {"dim_head": 8}),
    "SimpleViT registers": ("simple_vit_with_register_tokens", "SimpleViT", VIT | {"dim_head": 8}),
    "SimpleViT QK norm": ("simple_vit_with_qk_norm", "SimpleViT", VIT | {"dim_head": 8}),
    "SimpleViT FFT": (
        "simple_vit_with_fft", "SimpleViT", VIT | {"dim_head": 8, "freq_patch_size": 8},
    ),
    "DeepViT": ("deepvit", "DeepViT", VIT | {"dim_head": 8}),
    "CaiT": ("cait", "CaiT", VIT | {"dim_head": 8, "cls_depth": 1}),
    "parallel ViT": ("parallel_vit", "ViT", VIT | {"dim_head": 8, "num_parallel_branches": 2}),
    "ViT for small data": ("vit_for_small_dataset", "ViT", VIT | {"dim_head": 8}),
    "learnable memory ViT": ("learnable_memory_vit", "ViT", VIT | {"dim_head": 8}),
    "PiT": ("pit", "PiT", VIT | {"depth": (1, 1), "dim_head": 8, "patch_size": 4}),
    "T2TViT": (
        "t2t", "T2TViT",
        {"image_size": 32, "num_classes": 5, "dim": 32, "depth": 2, "heads": 4, "mlp_dim": 56,
         "t2t_layers": ((7, 4), (3, 2))},
    ),
    "CCT": (
        "cct", "CCT",
        {"img_size": 32, "embedding_dim": 32, "n_conv_layers": 1, "num_layers": 2, "num_heads": 4,
         "num_classes": 5, "mlp_ratio": 2.0},
    ),
    "CrossViT": (
        "cross_vit", "CrossViT",
        {"image_size": 32, "num_classes": 5, "depth": 1, "sm_dim": 24, "sm_patch_size": 4, "lg_dim": 32,
         "lg_patch_size": 8, "sm_enc_heads": 2, "lg_enc_heads": 2, "cross_attn_heads": 2, "sm_enc_depth": 1,
         "lg_enc_depth": 1},
    ),
    "LeViT": (
        "levit", "LeViT",
        {"image_size": 64, "num_classes": 5, "stages": 2, "dim": (32, 48), "depth": 1, "heads": (2, 4),
         "mlp_mult": 2},
    ),
    "CvT": (
        "cvt", "CvT",
        {"num_classes": 5, "s1_emb_dim": 16, "s2_emb_dim": 24, "s2_heads": 2, "s3_emb_dim": 32, "s3_heads": 2,
         "s3_depth": 1},
    ),
    "TwinsSVT": (
        "twins_svt", "TwinsSVT",
        {"num_classes": 5, "s1_emb_dim": 16, "s2_emb_dim": 16, "s3_emb_dim": 24, "s4_emb_dim": 32,
         "s3_depth": 1, "s1_local_patch_size": 4, "s2_local_patch_size": 4, "s3_local_patch_size": 4,
         "s1_global_k": 4, "s2_global_k": 4, "s3_global_k": 4, "s4_global_k": 2},
    ),
    "NesT": (
        "nest", "NesT",
        {"image_size": 32, "patch_size": 4, "dim": 24, "heads": 2, "num_hierarchies": 2,
         "block_repeats": (1, 1), "num_classes": 5},
    ),
    "MobileViT": (
        "mobile_vit", "MobileViT",
        {"image_size": (64, 64), "dims": [24, 32, 40], "num_classes": 5,
         "channels": [8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 48]},
    ),
    "MaxViT": (
        "max_vit", "MaxViT",
        {"num_classes": 5, "dim_conv_stem": 16, "dim": 16, "dim_head": 8, "depth": (1, 1), "window_size": 4},
    ),
}  # fmt: skip
SIDES = {"LeViT": 64, "MobileViT": 64, "CvT": 64, "TwinsSVT": 128}


def vit_pytorch(module: str, kind: str, options: dict[str, Any]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return getattr(importlib.import_module(f"vit_pytorch.{module}"), kind)(**options)

    return build


def x_transformer(layers: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        library = importlib.import_module("x_transformers")
        stack = getattr(library, layers)(dim=32, depth=2, heads=4, attn_dim_head=8, **options)
        return library.TransformerWrapper(num_tokens=VOCABULARY, max_seq_len=24, attn_layers=stack)

    return build


def x_vision() -> nn.Module:
    library = importlib.import_module("x_transformers")
    stack = library.Encoder(dim=32, depth=2, heads=4, attn_dim_head=8)
    return library.ViTransformerWrapper(image_size=32, patch_size=8, num_classes=5, attn_layers=stack)


X_TRANSFORMERS = {
    "encoder": x_transformer("Encoder"),
    "decoder": x_transformer("Decoder"),
    "decoder, rotary, GLU": x_transformer("Decoder", rotary_pos_emb=True, ff_glu=True, ff_swish=True),
    "decoder, one key head": x_transformer("Decoder", attn_one_kv_head=True, ff_relu_squared=True),
    "decoder, RMS norm, ALiBi": x_transformer("Decoder", use_rmsnorm=True, alibi_pos_bias=True),
    "encoder, talking heads": x_transformer("Encoder", attn_pre_talking_heads=True, ff_no_bias=True),
    "encoder, macaron": x_transformer("Encoder", macaron=True, use_scalenorm=True),
}  # fmt: skip


def stereo(count: int, length: int) -> Tensor:
    return torch.randn(count, 2, length, generator=seeded())


def conformer() -> nn.Module:
    kind = importlib.import_module("conformer").ConformerBlock
    return nn.Sequential(
        *(kind(dim=32, dim_head=8, heads=4, ff_mult=2, conv_kernel_size=7) for _ in range(2)),
        nn.Linear(32, 11),
    )


def demucs(module: str, kind: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return getattr(importlib.import_module(f"demucs.{module}"), kind)(["a", "b"], **options)

    return build


def encodec() -> nn.Module:
    # It asks torchaudio to resample files alone, and torchaudio's own library goes with one torch only.
    if "torchaudio" not in sys.modules:
        stand_in = ModuleType("torchaudio")
        stand_in.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = stand_in
    seanet = importlib.import_module("encodec.modules.seanet")
    options = {"n_filters": 8, "dimension": 16, "ratios": [4, 2], "norm": "weight_norm"}
    return nn.Sequential(seanet.SEANetEncoder(**options), seanet.SEANetDecoder(**options))


def attention_networks() -> list[Network]:
    out = []
    for name, given in SEEING.items():
        side = SIDES.get(name, 32)
        out.append(Network("vit-pytorch", name, vit_pytorch(*given), images, (side, larger(side))))
    out += [Network("x-transformers", name, build, words, (11, 14)) for name, build in X_TRANSFORMERS.items()]
    out.append(Network("x-transformers", "vision", x_vision, images, (32, 64)))
    small = {"depth": 2, "channels": 8}
    hearing = {
        "demucs": demucs("demucs", "Demucs", **small, lstm_layers=1, resample=False),
        "hdemucs": demucs("hdemucs", "HDemucs", channels=8, depth=5, nfft=1024, dconv_lstm=9, dconv_attn=9),
        "htdemucs": demucs(
            "htdemucs",
            "HTDemucs",
            channels=8,
            depth=4,
            nfft=1024,
            t_layers=1,
            t_heads=2,
            bottom_channels=32,
            segment=0.2,
        ),
    }
    out += [Network("audio", name, build, stereo, (2048, 4096)) for name, build in hearing.items()]
    out.append(Network("audio", "conformer", conformer, sequences(32), (11, 14)))
    out.append(Network("audio", "encodec", encodec, waves, (256, 512)))
    return out
