"""Files that are not what they should be: checkpoints, models, data, zips and images.

Each function makes one thing and returns the call that has to fail; the decorator says with which words.
"""

import io
import pickle
import stat
import struct
import zipfile
import zlib

import numpy as np
import torch
from malformed import malformed, patched, png
from networks import ConvNet
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from workbench.data.checkpoints import load_checkpoint
from workbench.data.loading import load_data
from workbench.data.models import load_model

# Checkpoints ---------------------------------------------------------------------------------------


@malformed(r"there is no file .*nowhere\.pt", FileNotFoundError)
def a_checkpoint_that_is_not_there(at):
    return lambda: load_checkpoint(at.model, at.folder / "nowhere.pt")


@malformed("is a folder: give the file of weights in it")
def a_folder_for_a_checkpoint(at):
    return lambda: load_checkpoint(at.model, at.folder)


@malformed(r"w\.safetensors is not a whole safetensors file")
def an_empty_safetensors_file(at):
    path = at.file("w.safetensors")
    return lambda: load_checkpoint(at.model, path)


@malformed(r"w\.safetensors is not a whole safetensors file.*truncated")
def a_truncated_safetensors_file(at):
    save_file(at.weights(), at.folder / "w.safetensors")
    content = (at.folder / "w.safetensors").read_bytes()
    path = at.file("w.safetensors", content[:-13])
    return lambda: load_checkpoint(at.model, path)


@malformed(r"w\.safetensors is not a whole safetensors file")
def a_safetensors_header_of_a_terabyte(at):
    path = at.file("w.safetensors", struct.pack("<Q", 1 << 40) + b'{"a": 1}')
    return lambda: load_checkpoint(at.model, path)


@malformed(r"w\.safetensors is not a whole safetensors file")
def a_pickle_called_safetensors(at):
    path = at.file("w.safetensors", pickle.dumps(at.trap))
    return lambda: load_checkpoint(at.model, path)


@malformed(r"weights\.pt is no whole checkpoint.*truncated")
def a_truncated_torch_file(at):
    content = at.torch_file(at.weights()).read_bytes()
    path = at.file("weights.pt", content[: len(content) // 2])
    return lambda: load_checkpoint(at.model, path)


@malformed(r"weights\.pt is no whole checkpoint")
def a_text_for_a_torch_file(at):
    path = at.file("weights.pt", "see the release page for the weights")
    return lambda: load_checkpoint(at.model, path)


@malformed(r"asks for \w+\.mkdir.* refused: nothing in it was run.*safetensors")
def code_in_a_torch_file(at):
    path = at.torch_file({"state_dict": at.weights(), "note": at.trap})
    return lambda: load_checkpoint(at.model, path)


@malformed(r"refused: nothing in it was run.*safetensors")
def code_in_the_older_torch_format(at):
    path = at.torch_file(at.trap, _use_new_zipfile_serialization=False)
    return lambda: load_checkpoint(at.model, path)


@malformed(r"refused: nothing in it was run.*safetensors")
def code_in_a_plain_pickle(at):
    path = at.file("weights.pkl", pickle.dumps({"conv1.weight": at.trap}))
    return lambda: load_checkpoint(at.model, path)


@malformed(r"holds a whole module .*Linear.*refused: nothing in it was run\. Save model\.state_dict")
def a_whole_module_in_a_file(at):
    path = at.torch_file(nn.Sequential(nn.Linear(3, 2)))
    return lambda: load_checkpoint(at.model, path)


@malformed("holds no state dict: its keys are epoch, optimizer")
def a_checkpoint_without_weights(at):
    path = at.torch_file({"epoch": 3, "optimizer": {"lr": 0.1}})
    return lambda: load_checkpoint(at.model, path)


@malformed(r"does not fit ConvNet, which has 18 keys: missing 15: .*and 10 more; unexpected 1: fc9\.bias")
def weights_of_another_model(at):
    path = at.torch_file({"fc9.bias": torch.zeros(3), "fc2.bias": torch.zeros(5)})
    return lambda: load_checkpoint(at.model, path)


@malformed(r"fc1\.weight is \(13, 40\), expected \(13, 44\)")
def weights_of_another_shape(at):
    path = at.torch_file(at.weights(fc1__weight=torch.zeros(13, 40)))
    return lambda: load_checkpoint(at.model, path)


@malformed(r"fc1\.bias holds NaN or infinite numbers")
def weights_with_nan(at):
    path = at.torch_file(at.weights(fc1__bias=torch.full((13,), torch.nan)))
    return lambda: load_checkpoint(at.model, path)


@malformed(r"fc1\.bias holds int8 numbers, expected float32")
def weights_of_another_kind_of_number(at):
    path = at.torch_file(at.weights(fc1__bias=torch.zeros(13, dtype=torch.int8)))
    return lambda: load_checkpoint(at.model, path)


@malformed("'meta' device")
def a_model_on_the_meta_device_for_a_checkpoint(at):
    path = at.torch_file(at.weights())
    with torch.device("meta"):
        empty = ConvNet()
    return lambda: load_checkpoint(empty, path)


# Models --------------------------------------------------------------------------------------------


@malformed("no_such_module_of_mine:make: cannot import no_such_module_of_mine")
def a_module_that_is_not_there(at):
    return lambda: load_model("no_such_module_of_mine:make")


@malformed("'resnet18' does not name a factory: give MODULE:FACTORY or FILE")
def a_model_without_its_package(at):
    return lambda: load_model("resnet18")


@malformed(r"net\.py:make made a dict, not a torch module")
def a_factory_of_something_else(at):
    path = at.file("net.py", "def make():\n    return {}\n")
    return lambda: load_model(f"{path}:make")


@malformed(r"net\.py:make failed: ZeroDivisionError")
def a_factory_that_fails(at):
    path = at.file("net.py", "def make():\n    return 1 / 0\n")
    return lambda: load_model(f"{path}:make")


@malformed(r"cannot import .*train\.py: SystemExit: 2")
def a_script_that_exits(at):
    path = at.file("train.py", "import sys\nsys.exit(2)\n")
    return lambda: load_model(f"{path}:Net")


@malformed(r"there is no file .*nowhere\.pt", FileNotFoundError)
def a_model_whose_checkpoint_is_not_there(at):
    return lambda: load_model("tests.networks:ConvNet", checkpoint=at.folder / "nowhere.pt")


@malformed("give the weights of tests.networks:ConvNet as a checkpoint file")
def pretrained_weights_of_ones_own_model(at):
    return lambda: load_model("tests.networks:ConvNet", weights="default")


@malformed("by its name, such as 'mynet:make', not by a int", TypeError)
def a_number_for_a_model(at):
    return lambda: load_model(13)


# Files of data -------------------------------------------------------------------------------------


@malformed(r"there is no file or folder .*nowhere: give a folder or \.zip", FileNotFoundError)
def data_that_is_not_there(at):
    return lambda: load_data(at.folder / "nowhere")


@malformed(r"table\.csv is not a kind of data that can be read: give a folder")
def data_of_an_unknown_kind(at):
    path = at.file("table.csv", "1,2,3\n")
    return lambda: load_data(path)


@malformed(r"x\.npz holds Python objects or is no NumPy file, and was refused: nothing in it was run")
def an_npz_of_objects(at):
    np.savez(at.folder / "x.npz", x=np.array([at.trap, None], dtype=object))
    return lambda: load_data(at.folder / "x.npz")


@malformed(r"x\.npy holds Python objects or is no NumPy file, and was refused: nothing in it was run")
def a_pickle_called_npy(at):
    path = at.file("x.npy", pickle.dumps(at.trap))
    return lambda: load_data(path)


@malformed(r"x\.npy is not a whole NumPy file.*truncated")
def a_truncated_npy(at):
    np.save(at.folder / "x.npy", np.zeros((13, 17)))
    path = at.file("x.npy", (at.folder / "x.npy").read_bytes()[:-13])
    return lambda: load_data(path)


@malformed(r"x\.npz is not a whole NumPy file.*truncated")
def a_truncated_npz(at):
    np.savez(at.folder / "x.npz", x=np.zeros((13, 17)))
    path = at.file("x.npz", (at.folder / "x.npz").read_bytes()[:-13])
    return lambda: load_data(path)


@malformed(r"x\.npz has the arrays a, b: expected one of x, inputs, .* and at most one of y, targets")
def an_npz_of_other_names(at):
    np.savez(at.folder / "x.npz", a=np.zeros(3), b=np.zeros(3))
    return lambda: load_data(at.folder / "x.npz")


@malformed(r"x\.npz has the arrays x_train, x_test: .*; choose its part with split=")
def an_npz_whose_split_is_not_chosen(at):
    np.savez(at.folder / "x.npz", x_train=np.zeros((3, 2)), x_test=np.zeros((3, 2)))
    return lambda: load_data(at.folder / "x.npz")


@malformed(r"holds <U3, expected numbers")
def an_array_of_words(at):
    return lambda: load_data(np.array(["cat", "dog"]))


@malformed(r"images-idx3-ubyte is not an IDX file of unsigned bytes.*starts with 00000d03")
def an_idx_file_of_floats(at):
    path = at.file("images-idx3-ubyte", bytes((0, 0, 13, 3)) + bytes(12))
    return lambda: load_data(path)


@malformed(r"images-idx3-ubyte has 21 bytes, but its header \(2, 3, 5\) asks for 46")
def a_truncated_idx_file(at):
    path = at.file("images-idx3-ubyte", bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 3, 5) + bytes(5))
    return lambda: load_data(path)


@malformed(r"images-idx3-ubyte\.gz is not a whole gzip file")
def an_idx_file_that_is_no_gzip(at):
    path = at.file("images-idx3-ubyte.gz", b"not gzip at all")
    return lambda: load_data(path)


@malformed("2 inputs but 3 targets were given")
def idx_labels_of_other_images(at):
    images_of = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 3, 5) + bytes(30)
    path = at.file("images-idx3-ubyte", images_of)
    at.file("labels-idx1-ubyte", bytes((0, 0, 8, 1)) + struct.pack(">I", 3) + bytes(3))
    return lambda: load_data(path)


@malformed("holds one number an example: give the file of images")
def idx_labels_for_images(at):
    path = at.file("labels-idx1-ubyte", bytes((0, 0, 8, 1)) + struct.pack(">I", 3) + bytes(3))
    return lambda: load_data(path)


# Zips and images -----------------------------------------------------------------------------------


@malformed(r"its entry '\.\./\.\./evil\.png' leads out of the archive")
def a_zip_with_names_that_climb(at):
    path = at.zip_file("a.png", "../../evil.png")
    return lambda: load_data(path)


@malformed(r"its entry '/etc/evil\.png' leads out of the archive")
def a_zip_with_an_absolute_name(at):
    path = at.zip_file("a.png", "/etc/evil.png")
    return lambda: load_data(path)


@malformed(r"its entry 'link\.png' is a link")
def a_zip_with_a_link(at):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = at.zip_file("a.png", link)
    return lambda: load_data(path)


@malformed(r"its entry 'a\.png' is encrypted")
def an_encrypted_zip(at):
    path = patched(at.zip_file("a.png"), b"PK\x01\x02", 8, b"\x01")
    return lambda: load_data(path)


@malformed(r"its entry 'a\.png' would unpack to 2,130,706,432 bytes; the limit for one image is 67,108,864")
def a_zip_that_would_unpack_to_gigabytes(at):
    path = patched(at.zip_file("a.png"), b"PK\x01\x02", 24, struct.pack("<I", 0x7F000000))
    return lambda: load_data(path)


@malformed(r"photos\.zip is not a readable zip file, or is truncated")
def a_truncated_zip(at):
    content = at.zip_file("a.png", "b.png").read_bytes()
    path = at.file("photos.zip", content[:-30])
    return lambda: load_data(path)


@malformed(r"the image a\.png in .*photos\.zip cannot be read")
def a_zip_whose_entry_is_damaged(at):
    path = patched(at.zip_file("a.png"), b"IHDR", 0, b"XXXX")
    return lambda: load_data(path)


@malformed(r"photos\.zip holds no images .* 1 other files")
def a_zip_without_images(at):
    path = at.zip_file("notes.txt")
    return lambda: load_data(path)


@malformed(r"the image cat/a\.jpg in .* cannot be read: cannot identify image file")
def an_image_that_is_none(at):
    at.file("photos/cat/a.jpg", "<html>404</html>")
    at.file("photos/dog/a.png", png())
    return lambda: load_data(at.folder / "photos")


@malformed(r"the image a\.png in .* cannot be read: .*truncated")
def a_truncated_image(at):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 37, 3), dtype=np.uint8))
    out = io.BytesIO()
    noise.save(out, "PNG")
    at.file("photos/a.png", out.getvalue()[:1000])
    return lambda: load_data(at.folder / "photos")


@malformed("it has 9000 × 9000 pixels, too many for one image")
def an_image_that_claims_to_be_enormous(at):
    header = b"IHDR" + struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    at.file("photos/a.png", content + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    return lambda: load_data(at.folder / "photos")


@malformed("its pixels have more than 8 bits")
def an_image_of_sixteen_bits(at):
    at.file("photos/a.png", png(mode="I;16"))
    return lambda: load_data(at.folder / "photos")


@malformed(r"a\.png is 5 × 7 pixels, b\.png 7 × 5: give size and crop")
def images_of_two_sizes(at):
    at.file("photos/a.png", png(5, 7))
    at.file("photos/b.png", png(7, 5))
    return lambda: load_data(at.folder / "photos")


@malformed(r"images both in folders and beside them \(a\.png\)")
def images_with_and_without_a_class(at):
    at.file("photos/a.png", png())
    at.file("photos/cat/a.png", png())
    return lambda: load_data(at.folder / "photos")
