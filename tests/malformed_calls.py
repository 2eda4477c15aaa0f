"""Calls with what does not fit: options, tensors, sessions, scores, moments and recipes.

Each function makes one thing and returns the call that has to fail; the decorator says with which words.
"""

import json
import shutil

import numpy as np
import torch
from malformed import malformed
from networks import ConvNet, images
from safetensors.torch import save_file

from workbench.data.loading import load_data
from workbench.measure.evaluation import evaluate
from workbench.session.replay import replay
from workbench.session.session import Session
from workbench.spectral.moment import Moment
from workbench.spectral.spectrum import Spectrum

# Options and tensors -------------------------------------------------------------------------------


@malformed("mean and std of images take 1 or 3 numbers, one a channel; got 2")
def a_mean_of_two_channels(at):
    return lambda: load_data(torch.zeros(3, 5, 7, dtype=torch.uint8), mean=(0.5, 0.5))


@malformed(r"std has 3 numbers, but the inputs \(13, 5\) have 5 channels")
def a_std_of_other_channels(at):
    return lambda: load_data(torch.zeros(13, 5), std=(1, 2, 3))


@malformed(r"the mean .* lies outside of 0–1, .* divide mean and std by 255")
def a_mean_in_units_of_bytes(at):
    return lambda: load_data(torch.zeros(3, 5, 7, dtype=torch.uint8), mean=(123.7, 116.3, 103.5))


@malformed(r"std must be positive, got \(1, 0, 1\)")
def a_std_of_nought(at):
    return lambda: load_data(torch.zeros(3, 5, 7, dtype=torch.uint8), std=(1, 0, 1))


@malformed(r"size must be a positive whole number or two \(height, width\), got -13")
def a_negative_size(at):
    return lambda: load_data(torch.zeros(3, 5, 7, dtype=torch.uint8), size=-13)


@malformed("the crop 9 × 9 is larger than the image, 5 × 7")
def a_crop_that_is_too_large(at):
    return lambda: load_data(torch.zeros(3, 5, 7, dtype=torch.uint8), crop=9)


@malformed("limit must be a whole number, 1 or more, got 0")
def a_limit_of_none(at):
    return lambda: load_data(torch.zeros(3, 5), limit=0)


@malformed("size and crop are for images")
def a_size_for_what_is_no_image(at):
    return lambda: load_data(torch.zeros(3, 5), size=13)


@malformed("can be read only once; give a tensor, a DataLoader or a list")
def a_generator_for_data(at):
    return lambda: load_data(batch for batch in [torch.zeros(3, 5)])


@malformed("the given data is a NoneType; give a tensor", TypeError)
def nothing_for_data(at):
    return lambda: load_data(None)


@malformed(r"the data is empty, of shape \(0, 5\)")
def no_example_at_all(at):
    return lambda: load_data(torch.zeros(0, 5))


@malformed("the input of example 11 has NaN or infinite numbers")
def an_example_with_nan(at):
    inputs = torch.zeros(13, 5)
    inputs[11, 3] = torch.nan
    return lambda: load_data(inputs)


@malformed("the target of example 2 has NaN or infinite numbers")
def a_target_with_inf(at):
    return lambda: load_data(torch.zeros(3, 5), targets=[0.5, 0.5, float("inf")])


@malformed("13 inputs but 11 targets were given")
def fewer_targets_than_inputs(at):
    return lambda: load_data((torch.zeros(13, 5), torch.zeros(11)))


@malformed("the input tensor lies on the 'meta' device and holds no numbers")
def data_on_the_meta_device(at):
    return lambda: load_data(torch.zeros(3, 5, device="meta"))


@malformed("classes are numbered from 0, but a target is -1")
def a_negative_class(at):
    return lambda: load_data(torch.zeros(3, 5), targets=[0, 1, -1])


@malformed(r"no classes, which are whole numbers: give target_type='values'")
def a_class_and_a_half(at):
    return lambda: load_data(torch.zeros(2, 5), targets=[0.0, 1.5], target_type="classes")


# Sessions and scores -------------------------------------------------------------------------------


@malformed("the calibration data is empty")
def a_session_on_no_batches(at):
    return lambda: Session(at.model, [])


@malformed("the calibration data is a generator, which can be read only once")
def a_session_on_a_generator(at):
    return lambda: Session(at.model, (batch for batch in [images(7)]))


class EndsEarly:
    """Its one generator serves all who ask, so whoever comes second gets nothing."""

    def __init__(self):
        self.batches = iter([images(7)])

    def __iter__(self):
        return self.batches


@malformed("gives the same iterator every time")
def data_that_ends_before_it_is_measured(at):
    return lambda: Session(at.model, EndsEarly()).measure()


class PromisesMore(list):
    """Says five batches and gives two."""

    def __len__(self):
        return 5


@malformed("promises 5 batches, but ended after 2")
def data_that_promises_more_than_it_gives(at):
    return lambda: Session(at.model, PromisesMore([images(7), images(7)])).measure()


@malformed("are not classes of 5 outputs")
def labels_beyond_the_outputs(at):
    return lambda: Session(at.model, images(7), (images(7), torch.full((7,), 5))).measure()


@malformed("must return one number", TypeError)
def a_score_function_that_returns_nothing(at):
    return lambda: Session(at.model, images(7), lambda model: None).measure()


@malformed("returned NaN")
def a_score_function_that_returns_nan(at):
    return lambda: Session(at.model, images(7), lambda model: float("nan")).measure()


@malformed("got a int", TypeError)
def a_session_on_a_number(at):
    return lambda: Session(5, images(7))


@malformed("an array of object", TypeError)
def an_array_of_objects(at):
    return lambda: Session(at.model, np.array([None, 3], dtype=object))


@malformed("a list was given", TypeError)
def samples_in_a_list(at):
    return lambda: Moment.of([[1.0, 2.0]])


@malformed("got a list")
def a_recipe_that_is_a_list(at):
    return lambda: replay([1], at.model, images(7))


@malformed("not go through the model")
def a_session_on_inputs_of_another_shape(at):
    return lambda: Session(at.model, images(7, channels=3))


@malformed("through the model")
def a_session_on_inputs_of_another_type(at):
    return lambda: Session(at.model, images(7).long())


@malformed("calibration batch 1 .*does not go through the model")
def batches_that_do_not_fit_each_other(at):
    return lambda: Session(at.model, [images(7), images(7, size=17)]).measure()


@malformed("calibration batch 1 has NaN or Inf in its inputs")
def a_batch_with_nan(at):
    return lambda: Session(at.model, [images(7), images(7) * torch.nan]).measure()


@malformed("'meta' device")
def a_session_on_a_model_without_weights(at):
    with torch.device("meta"):
        empty = ConvNet()
    return lambda: Session(empty, images(7))


@malformed("simultaneous, sequential; got 'both'")
def a_session_of_an_unknown_procedure(at):
    return lambda: Session(at.model, images(7), procedure="both")


@malformed(r"the evaluation data has no targets; a score needs \(inputs, targets\)")
def a_session_whose_evaluation_has_no_targets(at):
    return lambda: Session(at.model, images(7), images(7))


@malformed("no group is called 'conv9'")
def a_group_that_is_not_there(at):
    return lambda: at.session.preview("conv9", width=3)


@malformed("width")
def a_width_of_nought(at):
    return lambda: at.session.preview("conv2", width=0)


@malformed(r"θ must be a number in \[0, 1\], got 2")
def a_theta_out_of_range(at):
    return lambda: at.session.preview("conv2", width=3, theta=2)


@malformed("evaluation batch 0 .*does not fit the model")
def a_score_on_targets_of_another_shape(at):
    return lambda: evaluate(at.model, (images(7), torch.zeros(7, 3, dtype=torch.long)))


@malformed("evaluation data is empty")
def a_score_on_nothing(at):
    return lambda: evaluate(at.model, [])


# Moments and recipes -------------------------------------------------------------------------------


@malformed(r"Samples must have shape \(n, m\)")
def samples_of_one_axis(at):
    return lambda: Moment.of(torch.zeros(13))


@malformed("Samples must be floating-point activations, got torch.int64")
def samples_of_whole_numbers(at):
    return lambda: Moment.of(torch.zeros(17, 13, dtype=torch.long))


@malformed("Sample 3 has the value nan at unit 5")
def a_sample_with_nan(at):
    samples = torch.zeros(17, 13)
    samples[3, 5] = torch.nan
    return lambda: Moment.of(samples)


@malformed("must be symmetric")
def a_moment_that_is_not_symmetric(at):
    return lambda: Spectrum.of(torch.triu(torch.ones(3, 3)))


@malformed(r"recipe\.json is not a whole JSON file.*truncated")
def a_truncated_recipe(at):
    path = at.file("recipe.json", json.dumps(at.session.recipe)[:-13])
    return lambda: replay(path, at.model, images(7))


@malformed(r"version 99; this workbench reads version")
def a_recipe_of_another_version(at):
    return lambda: replay(at.session.recipe | {"version": 99}, at.model, images(7))


@malformed("made for a model with fingerprint .* load the weights")
def a_recipe_of_another_model(at):
    return lambda: replay(at.session.recipe, at.model, images(7))


@malformed(r"recipe\.json", FileNotFoundError)
def a_session_that_is_not_there(at):
    return lambda: Session.open(at.folder / "nowhere", at.model, images(7))


@malformed(r"moments\.safetensors is not a whole safetensors file.*truncated")
def a_session_with_truncated_moments(at):
    folder = at.session_of_an_earlier_version()
    path = folder / "moments.safetensors"
    path.write_bytes(path.read_bytes()[:-13])
    return lambda: Session.open(folder, at.session.original, images(7))


@malformed("cannot be opened: the saved weights do not fit")
def a_session_with_the_weights_of_another(at):
    folder = at.session_of_an_earlier_version()
    save_file({"fc9.bias": torch.zeros(3)}, folder / "model.safetensors")
    return lambda: Session.open(folder, at.session.original, images(7))


@malformed("made for a model with fingerprint")
def a_session_opened_on_another_model(at):
    folder = at.saved_session()
    return lambda: Session.open(folder, at.model, images(7))


@malformed(r"not a whole safetensors file|lacks|do not fit|moments of")
def a_session_whose_moments_are_its_weights(at):
    folder = at.session_of_an_earlier_version()
    shutil.copy(folder / "model.safetensors", folder / "moments.safetensors")
    return lambda: Session.open(folder, at.session.original, images(7))
