"""Images mirrored and shifted at random in fine-tuning."""

import pytest
import torch
from labelled import session_of
from networks import conv_net, images
from torch.nn import functional

from workbench.session.session import Session
from workbench.tuning.augmentation import augmented
from workbench.tuning.finetuning import finetune
from workbench.tuning.settings import Tuning


def candidates(image, flips, shifts):
    """Every change of one image that could be drawn."""
    height, width = image.shape[-2:]
    padded = functional.pad(image[None], (shifts,) * 4, mode="reflect")[0]
    for y in range(2 * shifts + 1):
        for x in range(2 * shifts + 1):
            cut = padded[:, y : y + height, x : x + width]
            yield cut
            if flips:
                yield functional.pad(image.flip(-1)[None], (shifts,) * 4, mode="reflect")[0][
                    :, y : y + height, x : x + width
                ]


@pytest.mark.parametrize(("flips", "shifts"), [(True, 0), (False, 2), (True, 1)])
def test_each_image_is_mirrored_and_moved_on_its_own(flips, shifts):
    x = torch.randn(200, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    changed = augmented(x, flips, shifts)
    assert changed.shape == x.shape
    seen = set()
    for before, after in zip(x, changed, strict=True):
        found = [i for i, one in enumerate(candidates(before, flips, shifts)) if torch.equal(one, after)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == (1 + flips) * (2 * shifts + 1) ** 2  # each change was drawn


def test_nothing_asked_nothing_done():
    x = images(5)
    assert torch.equal(augmented(x), x)


def test_several_inputs_of_images_change_alike_and_the_rest_stays():
    x, numbers = torch.randn(9, 2, 6, 6), torch.randn(9, 4)
    first, second, third = augmented((x, 2 * x, numbers), True, 2)
    assert torch.equal(2 * first, second)
    assert not torch.equal(first, x)
    assert torch.equal(third, numbers)


@pytest.mark.parametrize(
    ("inputs", "shifts", "words"),
    [
        (torch.randn(4, 7), 1, r"are for images of one size.*got \(4, 7\) float32: leave them off"),
        (torch.zeros(4, 3, 6, 6, dtype=torch.int64), 1, "are for images"),
        ((torch.randn(4, 3, 6, 6), torch.randn(4, 3, 8, 8)), 1, "of one size"),
        (torch.randn(4, 3, 6, 9), 6, "up to 6 pixels need larger images than 6 × 9"),
    ],
)
def test_what_cannot_be_moved_is_told(inputs, shifts, words):
    with pytest.raises(ValueError, match=words):
        augmented(inputs, True, shifts)


def test_fine_tuning_sees_other_images_in_every_step_and_the_same_ones_again():
    seen = []

    def tuned():
        model = conv_net()
        model.conv1.register_forward_pre_hook(lambda _m, args: seen.append(args[0].clone()))
        finetune(model, (images(16), torch.arange(16) % 5), Tuning(steps=3, batch=16, flips=True, shifts=1))
        steps = [x for x in seen if len(x) == 16][-3:]
        seen.clear()
        return steps

    first, again = tuned(), tuned()
    assert not torch.equal(first[0].sum((1, 2, 3)).sort()[0], first[1].sum((1, 2, 3)).sort()[0])
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_it_is_in_the_recipe():
    session = session_of()
    session.finetune(tuning=Tuning(steps=2, match=1.0, flips=True, shifts=1))
    step = session.recipe["steps"][-1]["tuning"]
    assert (step["flips"], step["shifts"]) == (True, 1)


def test_targets_that_lie_on_the_image_are_not_left_behind():
    session = Session(conv_net(), images(16))
    session.measure()
    data = [(images(16), torch.zeros(16, 8, 8, dtype=torch.int64))]
    with pytest.raises(ValueError, match=r"targets of shape \(16, 8, 8\) lie on the image"):
        session.finetune(data, Tuning(steps=1, flips=True))
    assert session.position == 0


@pytest.mark.parametrize("options", [{"shifts": -1}, {"shifts": 1.5}, {"flips": "yes"}])
def test_bad_settings_are_told(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Tuning(**options)
