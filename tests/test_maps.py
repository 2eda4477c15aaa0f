"""Single units looked at: mean activations agree with a plain hook, pictures with the weights."""

import base64
import io

import numpy as np
import pytest
import torch
from families import FAMILIES
from networks import conv_net, images
from PIL import Image

from workbench.measure.maps import mean_maps, unit_weights
from workbench.network.groups import named_group
from workbench.network.running import call
from workbench.session.looking import running_network
from workbench.session.session import Session
from workbench.widgets.unit_pictures import as_tiles, pictures_of, urls


@pytest.fixture(scope="module")
def session():
    return Session(conv_net(), images(48))


def hooked(model, layer, inputs):
    """What a layer receives, by a hook of the test's own."""
    seen = []
    handle = model.get_submodule(layer).register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    with torch.no_grad():
        call(model, inputs)
    handle.remove()
    return seen[-1].double()


def test_maps_of_channels_are_the_mean_of_what_the_next_convolution_receives(session):
    group = named_group(session.groups, "conv1")
    maps = mean_maps(session.model, group, [images(48)[:20], images(48)[20:]], 10**6)
    expected = hooked(session.model, "conv2", images(48)).mean(0)
    assert maps.shape == (7, 4, 4)
    assert torch.allclose(maps, expected, atol=1e-7)


def test_places_that_were_flattened_are_laid_out_again(session):
    group = named_group(session.groups, "conv2")
    maps = mean_maps(session.model, group, [images(48)], 10**6)
    expected = hooked(session.model, "fc1", images(48)).mean(0).reshape(11, 2, 2)
    assert torch.allclose(maps, expected, atol=1e-7)


def test_an_example_a_number_has_no_places(session):
    assert mean_maps(session.model, named_group(session.groups, "fc1"), [images(48)], 10**6) is None


def test_a_sequence_is_a_line_of_places():
    family = FAMILIES["transformer-encoder"]
    session = Session(family.build(), family.inputs(8))
    group = next(group for group in session.groups if group.name.endswith("linear1"))
    model = running_network(session)
    maps = mean_maps(model, group, [family.inputs(8)], 8)
    expected = hooked(model, group.readers[0].module, family.inputs(8)).mean(0).T
    assert maps.shape == (group.width, 1, 13)
    assert torch.allclose(maps[:, 0], expected, atol=1e-6)


def test_no_more_batches_are_run_than_asked_for(session):
    group, run = named_group(session.groups, "conv1"), []

    class Counted(list):
        def __iter__(self):
            for one in super().__iter__():
                run.append(1)
                yield one

    batches = Counted(images(48).split(8))
    mean_maps(session.model, group, batches, 16)
    before = len(run)
    run.clear()
    mean_maps(session.model, group, batches, 10**6)
    assert before < len(run)


def test_the_weights_of_a_unit_are_its_rows(session):
    model = session.model
    assert torch.equal(unit_weights(model, named_group(session.groups, "conv2")), model.conv2.weight)
    assert torch.equal(unit_weights(model, named_group(session.groups, "fc1")), model.fc1.weight)


def pixels(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).astype(float) / 255


def test_a_picture_is_the_kernel_on_one_scale_with_zero_in_the_middle():
    kernels = torch.randn(5, 1, 3, 3)
    tiles, words = as_tiles(kernels)
    assert words == "kernels"
    scale = float(kernels.abs().max())
    for url, kernel in zip(urls(tiles, signed=True, scale=scale), kernels, strict=True):
        assert np.abs(pixels(url) - (0.5 + kernel[0].numpy() / scale / 2)).max() <= 0.5 / 255 + 1e-9


def test_of_many_input_channels_those_that_weigh_most_are_shown_in_their_order():
    kernels = 0.01 * torch.rand(2, 20, 2, 2)
    strong = [3, 5, 6, 7, 11, 12, 13, 17, 19]
    kernels[:, strong] += 1
    tiles, words = as_tiles(kernels)
    assert words == "kernels of the 9 input channels that weigh most"
    for place, channel in enumerate(strong):
        top, left = 3 * (place // 3), 3 * (place % 3)
        assert torch.equal(tiles[:, 0, top : top + 2, left : left + 2], kernels[:, channel])


def test_weights_of_a_layer_on_pixels_stand_as_the_image():
    weights = torch.randn(4, 48)
    tiles, words = as_tiles(weights, (3, 4, 4))
    assert torch.equal(tiles, weights.reshape(4, 3, 4, 4))
    assert words == "weights as the image in its colours"
    tiles, words = as_tiles(weights)
    assert torch.equal(tiles.flatten(1)[:, :48], weights)
    assert words == "weights, row by row"


def test_pictures_are_of_the_network_as_it_stands_and_no_more_than_asked_for():
    session = Session(conv_net(), images(48))
    session.measure()
    assert len(pictures_of(session, "conv2", 64)["weights"]) == 11
    session.commit(session.preview("conv2", width=5))
    found = pictures_of(session, "conv2", 3)
    assert len(found["weights"]) == len(found["maps"]) == 3
    scale_free = pixels(found["weights"][0])
    assert scale_free.shape == as_tiles(session.model.conv2.weight)[0].shape[-2:]
