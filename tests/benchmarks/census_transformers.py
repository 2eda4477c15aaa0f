"""The census's networks of transformers, each from a small configuration."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from census_networks import Network, images, seeded, sequences, waves, words
from small_transformers import BART, BODY, GROUPED, IMAGE, T5, TEXT, VIT
from small_transformers import NETWORKS as SMALL
from torch import Tensor, nn
from vision import declare_operators

Given = dict[str, Tensor]
CAUSAL = BODY | {"use_cache": False}
DECODER = GROUPED | {"head_dim": 4}
EXPERTS = DECODER | {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 12,
}
DEEPSEEK = EXPERTS | {
    "n_routed_experts": 4, "n_shared_experts": 1, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
    "q_lora_rank": 12, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4,
    "num_key_value_heads": 4,
}  # fmt: skip
MARIAN = BART | {"decoder_start_token_id": 0, "forced_eos_token_id": 2}
SPEECH = BODY | {
    "conv_dim": (8, 8), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 2, "do_stable_layer_norm": False,
}  # fmt: skip
STAGES = {"depths": [1, 1, 1, 1], "num_labels": 5}

# class: (configuration, what it takes)
WORDS: dict[str, dict[str, Any]] = {
    "BertForSequenceClassification": SMALL["BertForSequenceClassification"][0],
    "RobertaForSequenceClassification": BODY | {"max_position_embeddings": 40},
    "ElectraForSequenceClassification": BODY | {"embedding_size": 12},
    "AlbertForSequenceClassification": BODY | {"embedding_size": 12},
    "DistilBertForSequenceClassification": SMALL["DistilBertForSequenceClassification"][0],
    "DebertaV2ForSequenceClassification": BODY | {
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8,
    },
    "MobileBertForSequenceClassification": BODY | {
        "embedding_size": 12, "intra_bottleneck_size": 12, "true_hidden_size": 12,
        "num_feedforward_networks": 2,
    },
    "SqueezeBertForSequenceClassification": BODY | {"embedding_size": 16},
    "ModernBertForSequenceClassification": BODY | {"local_attention": 8, "reference_compile": False},
    "FNetForSequenceClassification": BODY,
    "ConvBertForSequenceClassification": BODY | {"embedding_size": 16, "conv_kernel_size": 3,
    "num_groups": 1},
    "MPNetForSequenceClassification": BODY,
    "IBertForSequenceClassification": BODY,
    "XLNetForSequenceClassification": TEXT | {"d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 28,
    "use_mems_eval": False},
    "RoFormerForSequenceClassification": BODY | {"embedding_size": 16},
    "LongformerForSequenceClassification": BODY | {"attention_window": 4, "max_position_embeddings": 40},
    "EsmForSequenceClassification": BODY | {"max_position_embeddings": 40},
    "FunnelForSequenceClassification": TEXT | {
        "d_model": 16, "n_head": 4, "d_head": 4, "d_inner": 28, "block_sizes": [1, 1],
        "num_decoder_layers": 1,
    },
    "CanineForSequenceClassification": BODY | {"num_hash_buckets": 32, "local_transformer_stride": 4},
    "GPT2LMHeadModel": SMALL["GPT2LMHeadModel"][0],
    "GPTNeoForCausalLM": TEXT | {
        "hidden_size": 16, "num_layers": 2, "num_heads": 4, "intermediate_size": 28, "use_cache": False,
        "max_position_embeddings": 24, "attention_types": [[["global", "local"], 1]], "window_size": 4,
    },
    "GPTNeoXForCausalLM": CAUSAL,
    "GPTJForCausalLM": TEXT | {
        "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 24, "rotary_dim": 4, "use_cache": False,
    },
    "GPTBigCodeForCausalLM": SMALL["GPT2LMHeadModel"][0],
    "OPTForCausalLM": SMALL["OPTForCausalLM"][0],
    "BloomForCausalLM": TEXT | {"hidden_size": 16, "n_layer": 2, "n_head": 4, "use_cache": False},
    "FalconForCausalLM": CAUSAL | {"new_decoder_architecture": False, "multi_query": True},
    "CodeGenForCausalLM": TEXT | {
        "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 24, "rotary_dim": 4, "use_cache": False,
    },
    "MptForCausalLM": TEXT | {"d_model": 16, "n_heads": 4, "n_layers": 2, "max_seq_len": 24,
    "use_cache": False},
    "LlamaForCausalLM": GROUPED, "MistralForCausalLM": GROUPED, "Qwen2ForCausalLM": GROUPED,
    "Qwen3ForCausalLM": DECODER, "GemmaForCausalLM": DECODER, "Gemma2ForCausalLM": DECODER,
    "Gemma3ForCausalLM": DECODER, "PhiForCausalLM": CAUSAL, "Phi3ForCausalLM": GROUPED,
    "StableLmForCausalLM": GROUPED, "CohereForCausalLM": GROUPED, "Olmo2ForCausalLM": GROUPED,
    "Starcoder2ForCausalLM": GROUPED, "GraniteForCausalLM": GROUPED, "SmolLM3ForCausalLM": GROUPED,
    "NemotronForCausalLM": DECODER, "GlmForCausalLM": DECODER,
    "MixtralForCausalLM": EXPERTS, "Qwen2MoeForCausalLM": EXPERTS | {"shared_expert_intermediate_size": 12},
    "Qwen3MoeForCausalLM": EXPERTS, "OlmoeForCausalLM": EXPERTS, "DeepseekV3ForCausalLM": DEEPSEEK,
    "GptOssForCausalLM": EXPERTS,
    "MambaForCausalLM": TEXT | {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4,
    "use_cache": False},
    "Mamba2ForCausalLM": TEXT | {
        "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "num_heads": 4, "head_dim": 8,
        "n_groups": 2,
        "chunk_size": 8, "use_cache": False,
    },
    "RwkvForCausalLM": TEXT | {"hidden_size": 16, "num_hidden_layers": 2, "context_length": 24,
    "use_cache": False},
    "RecurrentGemmaForCausalLM": DECODER | {"lru_width": 16, "attention_window_size": 8,
    "num_hidden_layers": 3},
}  # fmt: skip
PAIRS: dict[str, dict[str, Any]] = {
    "T5ForConditionalGeneration": T5 | {"decoder_start_token_id": 0},
    "SwitchTransformersForConditionalGeneration": T5 | {
        "decoder_start_token_id": 0, "num_experts": 4, "num_sparse_encoder_layers": 1,
        "num_sparse_decoder_layers": 1,
    },
    "BartForConditionalGeneration": BART, "PegasusForConditionalGeneration": BART, "MarianMTModel": MARIAN,
    "M2M100ForConditionalGeneration": BART, "ProphetNetForConditionalGeneration": TEXT | {
        "hidden_size": 16, "num_encoder_layers": 1, "num_decoder_layers": 1, "num_encoder_attention_heads": 4,
        "num_decoder_attention_heads": 4, "encoder_ffn_dim": 28, "decoder_ffn_dim": 20, "use_cache": False,
        "max_position_embeddings": 24,
    },
}  # fmt: skip
IMAGES: dict[str, dict[str, Any]] = {
    **{name: SMALL[name][0] for name in (
        "ViTForImageClassification", "DeiTForImageClassification", "ConvNextForImageClassification",
        "ResNetForImageClassification", "RegNetForImageClassification", "MobileNetV2ForImageClassification",
        "SwinForImageClassification", "SegformerForImageClassification",
    )},
    "BeitForImageClassification": VIT, "Dinov2ForImageClassification": VIT,
    "MobileNetV1ForImageClassification": {"depth_multiplier": 0.25, "num_labels": 5},
    "Swinv2ForImageClassification": SMALL["SwinForImageClassification"][0],
    "BitForImageClassification": {
        "embedding_size": 8, "hidden_sizes": [16, 24], "depths": [1, 2], "num_groups": 4, "num_labels": 5,
    },
    "PoolFormerForImageClassification": STAGES | {"hidden_sizes": [8, 12, 16, 20]},
    "PvtV2ForImageClassification": STAGES | {"hidden_sizes": [8, 16, 16, 24], "num_attention_heads": [1, 2,
    2, 4]},
    "EfficientNetForImageClassification": {"width_coefficient": 0.25, "depth_coefficient": 0.3,
    "num_labels": 5, "hidden_dim": 320},
    "LevitForImageClassification": {
        "image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1],
        "key_dim": [8, 8, 8], "num_labels": 5,
    },
    "FocalNetForImageClassification": IMAGE | {"patch_size": 4, "embed_dim": 8, "depths": [1, 1],
    "focal_levels": [2, 2], "focal_windows": [3, 3], "hidden_sizes": [8, 16]},
    "YolosForObjectDetection": VIT | {"image_size": [32, 32], "num_detection_tokens": 5},
    "DPTForDepthEstimation": VIT | {"neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8,
    "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "is_hybrid": False},
}  # fmt: skip
WAVES: dict[str, dict[str, Any]] = {
    "Wav2Vec2ForCTC": SPEECH, "HubertForCTC": SPEECH, "WavLMForCTC": SPEECH,
    "SEWForCTC": SPEECH | {"squeeze_factor": 2},
    "Wav2Vec2ConformerForCTC": SPEECH | {"conv_depthwise_kernel_size": 7,
    "position_embeddings_type": "rotary"},
    "Data2VecAudioForCTC": SPEECH | {"conv_pos_kernel_size": 3},
}  # fmt: skip


def tokens(count: int, length: int) -> Given:
    return {"input_ids": words(count, length)}


def pairs(count: int, length: int) -> Given:
    return {"input_ids": words(count, length), "decoder_input_ids": words(count, length - 4)}


def pictures(count: int, side: int) -> Given:
    return {"pixel_values": images(count, side)}


def masked(count: int, side: int) -> Given:
    """With the order in which patches are hidden, which is drawn by chance otherwise."""
    patches = (side // IMAGE["patch_size"]) ** 2
    return pictures(count, side) | {"noise": torch.rand(count, patches, generator=seeded())}


def heard(count: int, length: int) -> Given:
    return {"input_values": torch.randn(count, length, generator=seeded())}


def spectra(count: int, length: int) -> Given:
    given = torch.randn(count, 12, length, generator=seeded())
    return {"input_features": given, "decoder_input_ids": words(count, 7)}


def spectrogram(count: int, length: int) -> Given:
    return {"input_values": sequences(12)(count, length)}


def codes(count: int, length: int) -> Given:
    return {"input_values": waves(count, length)}


def seen_and_read(count: int, length: int) -> Given:
    return {"input_ids": words(count, length), "pixel_values": images(count, 32)}


def nested(name: str) -> Callable[[], nn.Module]:
    """CLIP and its like: a text and a vision configuration."""

    def build() -> nn.Module:
        library = importlib.import_module("transformers")
        kind = getattr(library, name)
        return kind(kind.config_class(text_config=BODY, vision_config=VIT, projection_dim=12))

    return build


def from_configuration(name: str, options: dict[str, Any]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        declare_operators()
        kind = getattr(importlib.import_module("transformers"), name)
        return kind(kind.config_class(**options))

    return build


OTHERS: dict[str, tuple[dict[str, Any], Callable[[int, int], Given], tuple[int, int]]] = {
    "WhisperForConditionalGeneration": (
        BART | {"num_mel_bins": 12, "max_source_positions": 20, "max_target_positions": 24}, spectra, (40,
        40),
    ),
    "ASTForAudioClassification": (
        BODY | {"num_mel_bins": 12, "max_length": 24, "patch_size": 4, "frequency_stride": 4,
        "time_stride": 4},
        spectrogram, (24, 24),
    ),
    "EncodecModel": (
        {"num_filters": 4, "hidden_size": 8, "upsampling_ratios": [4, 2], "codebook_size": 16,
        "codebook_dim": 8,
         "target_bandwidths": [1.5], "sampling_rate": 400, "num_lstm_layers": 1},
        codes, (256, 512),
    ),
    "DacModel": (
        {"encoder_hidden_size": 8, "downsampling_ratios": [2, 2], "decoder_hidden_size": 16, "n_codebooks": 2,
         "codebook_size": 16, "codebook_dim": 4, "upsampling_ratios": [2, 2], "hidden_size": 32},
        codes, (64, 128),
    ),
    "ViTMAEForPreTraining": (
        VIT | {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 4, "decoder_intermediate_size": 28},
        masked, (32, 32),
    ),
    "PerceiverForSequenceClassification": (
        TEXT | {"num_latents": 6, "d_latents": 16, "d_model": 12, "num_blocks": 1,
        "num_self_attends_per_block": 2,
                "num_self_attention_heads": 4, "num_cross_attention_heads": 4, "max_position_embeddings": 24},
        lambda count, length: {"inputs": words(count, length)}, (11, 14),
    ),
}  # fmt: skip


def transformers_networks() -> list[Network]:
    out = []
    for options, inputs, sizes in (
        (WORDS, tokens, (11, 14)),
        (PAIRS, pairs, (11, 14)),
        (IMAGES, pictures, (32, 64)),
        (WAVES, heard, (200, 320)),
    ):
        for name, given in options.items():
            at = (64, 96) if name.startswith("Levit") else sizes
            at = (16, 24) if name.startswith(("Canine", "Longformer")) else at
            out.append(Network("transformers", name, from_configuration(name, given), inputs, at))
    for name, (given, inputs, sizes) in OTHERS.items():
        out.append(Network("transformers", name, from_configuration(name, given), inputs, sizes))
    for name in ("CLIPModel", "SiglipModel"):
        out.append(Network("transformers", name, nested(name), seen_and_read, (11, 14)))
    return out
