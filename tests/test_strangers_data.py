"""Whatever strangers' weights and data claim is told at once, by one error that names the file."""

import gzip
import io
import json
import os
import pickle
import socket
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from malformed import png
from networks import conv_net, images
from refusing import refused
from safetensors.torch import save_file

from workbench.cli import main
from workbench.data.bounds import FileError, check_unpacked
from workbench.data.checkpoints import load_checkpoint, read_state_dict
from workbench.data.loading import load_data, load_evaluation
from workbench.data.tensor_files import MOST_TENSORS, read_tensors
from workbench.examples.cifar import read_cifar_batch
from workbench.session.recipe import read_recipe

# Weights -------------------------------------------------------------------------------------------


def safetensors(path, header, numbers=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)
    return path


def test_a_million_empty_tensors(tmp_path):
    path = tmp_path / "w.safetensors"
    entry = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    safetensors(path, b"{" + b",".join(entry % index for index in range(10**6)) + b"}")
    for read in (read_tensors, read_state_dict):
        with pytest.raises(FileError, match=r"w\.safetensors (has a header of|holds) [\d,]+ "):
            read(path)
    few = b"{" + b",".join(entry % index for index in range(MOST_TENSORS + 1)) + b"}"
    with pytest.raises(FileError, match=r"w\.safetensors holds 100,001 tensors"):
        read_tensors(safetensors(path, few))


def test_a_million_empty_tensors_of_torch(tmp_path):
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", b"\x80\x02}" + b"(" * (17 << 20) + b".")
        archive.writestr("w/version", b"3\n")
    with pytest.raises(FileError, match=r"w\.pt has 17,825,[\d,]+ bytes of names"):
        read_state_dict(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data/0", bytes(1 << 24))
    assert refused(lambda: read_state_dict(path), r"w\.pt is refused: its part 'w/data/0' is packed")


def test_tensors_that_repeat_one_number_without_end(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"fc1.weight": torch.zeros(1).expand(10**12)}, path)
    assert refused(lambda: read_state_dict(path), r"w\.pt: fc1\.weight claims 1,000,000,000,000 numbers")
    assert refused(lambda: load_checkpoint(conv_net(), path), r"w\.pt: fc1\.weight claims")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 8]}}, r"tensor 'a'.*shape"),
        ({"a": {"dtype": "F32", "shape": [0, 10**12], "data_offsets": [0, 0]}}, r"tensor 'a'.*shape"),
        ({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, r"tensor 'a'.*shape"),
        ({"a": {"dtype": "F32", "shape": [1] * 40, "data_offsets": [0, 4]}}, r"tensor 'a'.*shape"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 10**6]}}, "whole safetensors file"),
        ({"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}, "whole safetensors file"),
        (b'{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}, "a": {}}', r"\$\.a is there twice"),
        (b"[" * 100_000, "nested more than 64"),
        (b"9" * 400, "digits"),
        ([], "no object"),
    ],
)
def test_what_a_safetensors_file_says_of_itself_is_checked(header, words, tmp_path):
    path = safetensors(tmp_path / "w.safetensors", header, bytes(8))
    assert "w.safetensors" in str(refused(lambda: read_tensors(path), words))


# Data ----------------------------------------------------------------------------------------------


def npy_header(shape, dtype="|u1"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": shape})
    return out.getvalue()


def bomb(path, parts):
    """An .npz whose one array `x` is `parts` times 16 MiB of zeros, with a header that says so."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        file.write(npy_header((parts, 16 << 20)))
        for _ in range(parts):
            file.write(bytes(16 << 20))
    return path


def test_npz_bombs_are_not_unpacked(tmp_path):
    path = bomb(tmp_path / "x.npz", 24)
    assert refused(lambda: load_data(path, limit=10), r"x\.npz.*'x\.npy'.* would unpack from [\d,]+ to 402,6")
    assert refused(lambda: load_data(np.zeros((3, 2)), targets=path, limit=2), r"x\.npz.* would unpack")


@pytest.mark.parametrize("shape", [(10**12,), (10**12, 10**12), (-3,), (3, 10**12), (10**400,)])
@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_arrays_that_claim_any_shape(name, shape, tmp_path):
    content = npy_header(shape) + bytes(64)
    if name == "x.npy":
        (tmp_path / name).write_bytes(content)
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x.npy", content)
    assert refused(lambda: load_data(tmp_path / name, limit=10), rf"{name} is not a whole NumPy file")


def test_a_zip_called_npy_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 2)))
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    assert refused(lambda: load_data(tmp_path / "x.npy"), r"x\.npy holds Python objects or is no NumPy file")


def idx(count, content=b""):
    return bytes((0, 0, 8, 3)) + struct.pack(">3I", count, 28, 28) + content


def test_gzip_bombs_are_not_unpacked(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    with gzip.open(path, "wb") as file:
        file.write(idx(400_000))
        for _ in range(20):
            file.write(bytes(16 << 20))
    assert refused(lambda: load_data(path, limit=10), r"ubyte\.gz, by its header .* would unpack from")
    path.write_bytes(gzip.compress(idx(3) + bytes(32 << 20)))  # more than its header says
    assert refused(lambda: load_data(path, limit=10), "has more than 2368 bytes")


def test_a_small_file_that_claims_all_is_told(tmp_path):
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(idx(2**32 - 1))
    assert refused(lambda: load_data(path, limit=10), "asks for")
    path.write_bytes(idx(5, bytes(5 * 784)))
    assert load_data(path, limit=3).inputs.shape == (3, 1, 28, 28)


def test_what_may_be_unpacked():
    check_unpacked("it", 200 << 20, 10, 4 << 30)
    check_unpacked("it", 3 << 30, 1 << 30, 4 << 30)
    for unpacked, packed in ((5 << 30, 5 << 30), (1 << 30, 1 << 20)):
        assert refused(lambda a=unpacked, b=packed: check_unpacked("it", a, b, 4 << 30), "it would unpack")


def test_packings_that_ask_for_memory_are_refused(tmp_path):
    for packing in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        with zipfile.ZipFile(tmp_path / "p.zip", "w", packing) as archive:
            archive.writestr("a.png", png())
        assert refused(lambda: load_data(tmp_path / "p.zip"), r"'a\.png' is packed by method")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("a.png", png())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", png())
    assert refused(lambda: load_data(tmp_path / "p.zip"), r"'a\.png' is there twice")


def test_an_image_of_endless_scans_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8" + b"\xff\xda\x00\x02" * 1000)
    assert refused(lambda: load_data(tmp_path), r"a\.jpg in .* more than 200 scans")


def test_an_image_that_links_out_of_its_folder_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    (tmp_path / "photos" / "a.png").symlink_to(tmp_path / "secret.png")
    assert refused(lambda: load_data(tmp_path / "photos"), r"a\.png .*link that leads out")
    (tmp_path / "photos" / "a.png").unlink()
    (tmp_path / "photos" / "b.png").write_bytes(png())
    (tmp_path / "photos" / "c.png").symlink_to("b.png")
    os.mkfifo(tmp_path / "photos" / "d.png")
    (tmp_path / "photos" / "e.png").symlink_to("/dev/zero")
    assert len(load_data(tmp_path / "photos").inputs) == 2


def test_a_pickle_that_asks_for_places_without_end(tmp_path):
    path = tmp_path / "test_batch"
    path.write_bytes(b"\x80\x02}r" + struct.pack("<I", 1 << 30) + b".")
    assert refused(lambda: read_cifar_batch(path), "test_batch.*at byte 3 it asks for more memory")
    path.write_bytes(pickle.dumps({b"data": 10**400}))
    assert refused(lambda: read_cifar_batch(path), "test_batch")


ENDLESS = ("pipe", "/dev/zero", "/dev/urandom", "/dev/tty", "socket")


@pytest.mark.parametrize("what", ENDLESS)
def test_no_reader_waits_for_what_is_no_file(what, tmp_path, capsys):
    path = tmp_path / "it"
    server = socket.socket(socket.AF_UNIX)
    if what == "pipe":
        os.mkfifo(path)
    elif what == "socket":
        server.bind(str(path))
    else:
        path = what
    with server:
        for read in (read_recipe, read_tensors_of, read_state_dict, load_data, load_evaluation, read_cifar):
            assert refused(lambda read=read: read(str(path)), "is a (pipe|device|socket), not a regular file")
        assert refused(lambda: load_data(images(3), targets=str(path)), "is a (pipe|device|socket)")
        assert main(["replay", str(path)]) == 2
        assert "not a regular file" in capsys.readouterr().err


def read_tensors_of(path):
    return read_tensors(Path(path))


def read_cifar(path):
    return read_cifar_batch(Path(path))


def test_sparse_files_are_told_by_their_size(tmp_path):
    for name, read in (("recipe.json", read_recipe), ("test_batch", read_cifar)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(1 << 40)
        assert refused(
            lambda read=read, name=name: read(str(tmp_path / name)), "1,099,511,627,776 bytes; the limit"
        )
    (tmp_path / "x.png").touch()
    os.truncate(tmp_path / "x.png", 1 << 40)
    assert refused(lambda: load_data(tmp_path), r"x\.png.*the limit")


def test_good_files_are_read_as_before(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(0, 3), "c": torch.tensor(3)}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"format": "pt"})
    assert all(torch.equal(read_tensors(tmp_path / "w.safetensors")[name], tensors[name]) for name in tensors)
    for old in (True, False):
        torch.save(tensors, tmp_path / "w.pt", _use_new_zipfile_serialization=not old)
        found = read_state_dict(tmp_path / "w.pt")
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    np.savez_compressed(tmp_path / "x.npz", x=np.arange(6.0).reshape(2, 3), y=np.array([0, 1]))
    data = load_data(tmp_path / "x.npz")
    assert data.inputs.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert data.targets.tolist() == [0, 1]
    (tmp_path / "photos").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "photos")  # the folder itself may be a link
    (tmp_path / "photos" / "a.png").write_bytes(png())
    assert load_data(tmp_path / "linked").inputs.shape == (1, 3, 5, 7)
