"""Sizes that code gives to torch, in every way in which torch takes them: read, and given anew."""

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from workbench.network.rebuilt.given_sizes import INPUT, given_sizes, input_of

X = torch.arange(48.0).reshape(2, 24)


class Seen(TorchFunctionMode):
    """Notes what is given, and that the call with the same sizes gives the same."""

    def __init__(self):
        super().__init__()
        self.given = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = given_sizes(func, args, kwargs)
        out = func(*args, **kwargs)
        if given is not None:
            again = func(*given.arguments(given.sizes))
            pairs = [(out, again)] if isinstance(out, Tensor) else zip(out, again, strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
            results = [out] if isinstance(out, Tensor) else list(out)
            tensors = {INPUT: input_of(args, kwargs)} | dict(enumerate(results))
            for size, one in zip(given.sizes, given.counted, strict=True):
                places = torch.arange(tensors[one.tensor].shape[one.axis])[one.first : one.stop]
                assert size == -1 or len(places) == abs(size)
            self.given.append(given)
        return out


CALLS = {
    "view": (lambda x: x.view(2, 4, 6), [2, 4, 6]),
    "view of a tuple": (lambda x: x.view((2, 4, -1)), [2, 4, -1]),
    "view of a size": (lambda x: x.view(torch.Size([4, 12])), [4, 12]),
    "reshape": (lambda x: x.reshape(-1), [-1]),
    "reshape by name": (lambda x: torch.reshape(input=x, shape=(4, 12)), [4, 12]),
    "unflatten": (lambda x: x.unflatten(-1, (4, 6)), [4, 6]),
    "unflatten by name": (lambda x: torch.unflatten(input=x, dim=1, sizes=[4, -1]), [4, -1]),
    "split": (lambda x: x.split(8, dim=1), [8]),
    "split by name": (lambda x: torch.split(tensor=x, split_size_or_sections=[4, 20], dim=-1), [4, 20]),
    "split with sizes": (lambda x: x.split_with_sizes(split_sizes=(4, 20), dim=1), [4, 20]),
    "narrow": (lambda x: x.narrow(1, 4, 12), [4, 12]),
    "narrow by name": (lambda x: torch.narrow(x, dim=1, start=0, length=3), [0, 3]),
    "a slice": (lambda x: x[:, 4:12], [4, 12]),
    "the last": (lambda x: x[..., -6:], [-6]),
    "behind a new axis": (lambda x: x[None, 0, :8], [8]),
    "dots in the middle": (lambda x: x.view(2, 4, 6)[:1, ..., :-2], [2, 4, 6, 1, -2]),
}


@pytest.mark.parametrize("name", CALLS)
def test_sizes_are_read_and_count_what_they_say(name):
    call, sizes = CALLS[name]
    with Seen() as seen:
        call(X)
    assert [size for given in seen.given for size in given.sizes] == sizes


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.view(torch.int32),
        lambda x: x.view(dtype=torch.int32),
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x[[1, 0]],
        lambda x: x[True],
        lambda x: x[:, ::2],
        lambda x: x[0, 0].reshape(()),
        lambda x: x.flatten(),
        lambda x: x.chunk(3, 1),
    ],
)
def test_what_gives_no_number_of_places_is_passed_over(call):
    with Seen() as seen:
        call(X)
    assert seen.given == []


@pytest.mark.parametrize("call", [lambda x: x.view(5, 7), lambda x: x.split(), lambda x: x[0, 0].split(1)])
def test_what_torch_refuses_torch_says(call):
    with pytest.raises((RuntimeError, TypeError, IndexError)), Seen():
        call(X)
