"""The course's network with a stream: its groups are as it is drawn, and it is the same every time."""

import pytest
import torch

from workbench.course.streams import stream_images, stream_network
from workbench.network.finding.proof import find_groups
from workbench.network.groups import named_group
from workbench.network.surgery import remove_units

NAMES = ("stem", "inner", "expand", "left", "right")


@pytest.fixture(scope="module")
def found():
    network, images = stream_network(), stream_images()
    return network, images, find_groups(network, images)


def test_the_stream_has_every_writer_and_reader_and_the_branches_their_own_units(found):
    _, _, groups = found
    assert tuple(group.name for group in groups if group.prunable) == NAMES
    stream = named_group(groups, "stem")
    assert [one.module for one in stream.writers] == ["stem", "outer", "project"]
    assert [one.module for one in stream.readers] == ["inner", "expand", "left", "right"]
    assert "depthwise" in [one.module for one in named_group(groups, "expand").norms]
    columns = [named_group(groups, name).readers[0].columns.flatten().tolist() for name in ("left", "right")]
    assert columns == [list(range(8)), list(range(8, 20))]


@pytest.mark.parametrize("name", NAMES)
def test_removing_is_silencing_at_every_reader(found, name):
    network, images, groups = found
    group = named_group(groups, name)
    lost = torch.tensor([1, 5])
    kept = [j for j in range(group.width) if j not in (1, 5)]
    hooks = [
        network.get_submodule(reader.module).register_forward_pre_hook(
            lambda _module, given, reader=reader: (given[0].index_fill(1, reader.columns[lost].flatten(), 0),)
        )
        for reader in group.readers
    ]
    silenced = network(images)
    for hook in hooks:
        hook.remove()
    removed = remove_units(network, groups, name, kept)[0](images)
    torch.testing.assert_close(removed, silenced, rtol=0, atol=1e-12)
    assert (removed - network(images)).abs().max() > 1e-4


def test_it_is_the_same_every_time_and_leaves_the_caller_s_random_numbers():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first, second, other = stream_network(), stream_network(), stream_network(1)
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(first(stream_images()), second(stream_images()))
    assert not torch.equal(first(stream_images()), other(stream_images()))
    assert torch.equal(stream_images(), stream_images())
