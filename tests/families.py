"""One small, faithful network a family of architectures, with inputs: what the proofs and tables go over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import family_branches as branches
import family_images as pictures
import family_sequences as sequences
import pytest
import torch
from torch import Tensor, nn

from workbench.network.running import Inputs, call


@dataclass(frozen=True)
class Family:
    """`build()` is a seeded model in evaluation mode; `inputs(n)` n random examples, the same each time."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]


FAMILIES: dict[str, Family] = {}
SETTLING = 32  # examples: batch norms settle on these, so that every variance is well above zero


def add(name: str, make: Callable[[], nn.Module], inputs: Callable[[int], Inputs]) -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        model = make()
        return settle(enliven(model), inputs(SETTLING))

    FAMILIES[name] = Family(name, build, inputs)


def enliven(model: nn.Module) -> nn.Module:
    """Random values for every scale and bias that starts constant, where a mistake would not be seen.

    Weights are doubled: torch's own start lets the signal fade on the way through layers without norms.
    """
    embeddings = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and not any(parameter is weight for weight in embeddings):
                parameter.mul_(2)
            if parameter.dim() != 1 or len(parameter) == 1 or parameter.min() < parameter.max():
                continue
            if parameter[0] == 0:
                parameter.normal_(0, 0.2)
            else:  # a scale, or the slopes of a PReLU
                parameter.mul_(torch.empty_like(parameter).uniform_(0.5, 1.5))
    return model


def settle(model: nn.Module, inputs: Inputs) -> nn.Module:
    """The model in evaluation mode, its batch norms with exactly the statistics of `inputs`."""
    model.eval()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return model
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        call(model, inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def normal(*shape: int) -> Callable[[int], Tensor]:
    """`inputs` of a family that takes one tensor (n, *shape) of normal numbers."""
    return lambda n: torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))


def tokens(length: int, vocabulary: int) -> Callable[[int], Tensor]:
    """`inputs` of a family that takes (n, length) numbers of words."""
    return lambda n: torch.randint(vocabulary, (n, length), generator=torch.Generator().manual_seed(1))


def image_and_vector(n: int) -> tuple[Tensor, Tensor]:
    return normal(2, 8, 8)(n), normal(5)(n)


def masked_tokens(n: int) -> dict[str, Tensor]:
    """Sentences of 13 words, every second one padded after the 9th."""
    mask = torch.ones(n, 13, dtype=torch.long)
    mask[1::2, 9:] = 0
    return {"input_ids": tokens(13, 97)(n), "attention_mask": mask}


def bert() -> nn.Module:
    """Hugging Face's BERT classifier from a tiny configuration, nothing downloaded."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=97,
        hidden_size=35,
        num_hidden_layers=2,
        num_attention_heads=5,
        intermediate_size=53,
        max_position_embeddings=31,
        num_labels=3,
        initializer_range=0.1,
    )
    return transformers.BertForSequenceClassification(config)


def vgg16(classes: int = 1000) -> pictures.VGG:
    """torchvision's vgg16: 138.36 M parameters, 15.47 G MACs at 224×224. Build it on the meta device."""
    plan = [64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"]
    return pictures.VGG(plan, 4096, classes)


def resnet50(classes: int = 1000) -> pictures.ResNet:
    """torchvision's resnet50: 25.56 M parameters, about 4.1 G MACs at 224×224."""
    return pictures.ResNet(pictures.Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), classes)


VGG_PLAN = [7, "M", 11, "M", 13, 13, "M", 17, 17]

add("lenet", pictures.LeNet, normal(1, 28, 28))
add("vgg", lambda: pictures.VGG(VGG_PLAN, 37, 7, pool=2), normal(3, 16, 16))
add("vgg-bn", lambda: pictures.VGG(VGG_PLAN, 37, 7, pool=2, norm=True), normal(3, 16, 16))
add("resnet20", lambda: pictures.CifarResNet(20), normal(3, 16, 16))
add("resnet56", lambda: pictures.CifarResNet(56), normal(3, 16, 16))
add(
    "resnet-projection",
    lambda: pictures.ResNet(pictures.BasicBlock, (2, 2, 1), (7, 11, 13), 5),
    normal(3, 32, 32),
)
add(
    "resnet-bottleneck",
    lambda: pictures.ResNet(pictures.Bottleneck, (2, 2), (7, 11), 5),
    normal(3, 32, 32),
)
add(
    "resnext",
    lambda: pictures.ResNet(pictures.Bottleneck, (2, 2), (7, 14), 5, groups=3, per_group=1),
    normal(3, 32, 32),
)
add("densenet", branches.DenseNet, normal(3, 12, 12))
add("inception", branches.Inception, normal(3, 16, 16))
add("mobilenetv2", branches.MobileNetV2, normal(3, 32, 32))
add("efficientnet", branches.EfficientNet, normal(3, 32, 32))
add("unet", branches.UNet, normal(1, 16, 16))
add("conv1d-audio", pictures.AudioNet, normal(1, 401))
add("convnet3d", pictures.LeNet3d, normal(1, 8, 8, 8))
add("vit", sequences.ViT, normal(3, 16, 16))
add("gpt", sequences.Gpt, tokens(13, 53))
add("bert", bert, masked_tokens)
add("transformer-encoder", sequences.EncoderNet, normal(13, 11))
add("gqa", sequences.Llama, tokens(13, 53))
add("gru", sequences.GruNet, normal(13, 7))
add("lstm", sequences.LstmNet, normal(13, 7))
add("lstm2", sequences.LstmText, tokens(13, 53))
add("bidirectional-rnn", sequences.BidirectionalNet, normal(13, 7))
add("two-inputs", branches.TwoInputs, image_and_vector)
add("dataclass-output", branches.WithFeatures, normal(2, 8, 8))

# Of these, resnet56 repeats the blocks of resnet20: what takes long is tried on one of the two.
EACH = tuple(name for name in FAMILIES if name != "resnet56")
