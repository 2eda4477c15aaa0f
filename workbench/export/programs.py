"""A network as a program that runs without its class: torch's `.pt2` and ONNX, for any number of examples.

What is written is read again and run beside the network, at other batch sizes, before anyone gets it.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.data.durable import write_whole
from workbench.export.signature import described, input_names, names_of
from workbench.network.running import (
    Inputs,
    batch_length,
    call,
    mapped,
    moved,
    one_line,
    shape_of,
    tensors_of,
)

TRACED = 3  # examples in the batch that is traced
CHECKED = (5, 1)  # batches on which file and network must agree
TOLERANCE = {"pt2": 1e-5, "onnx": 1e-4}  # of the largest output
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
CHATTER = ("torch", "onnxscript", "onnx_ir", "onnxruntime")
_QUIET = threading.RLock()  # levels and filters are the whole process's
Run = Callable[[Inputs], list[Tensor]]


class Flat(nn.Module):
    """A model that returns a tensor or a tuple of tensors, whatever it returned by itself."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

        @functools.wraps(model.forward)  # for the names of the arguments
        def forward(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
            return tuple(tensors_of(model(*args, **kwargs)))

        self.forward = forward


@dataclasses.dataclass(frozen=True)
class Portable:
    """A network ready to be written as a program: on the CPU, in evaluation mode, returning tensors.

    `inputs` and `outputs` say what goes in and comes out (see `described`).
    """

    model: nn.Module
    example: Inputs
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]

    @classmethod
    def of(cls, model: nn.Module, example: Inputs) -> Portable:
        """Raises ValueError where the example does not go through the model."""
        model = copy.deepcopy(model).cpu().eval()
        example = mapped(moved(example, torch.device("cpu")), torch.clone)
        if not batch_length(example):
            raise ValueError(f"the example input holds no example: {shape_of(example)}")
        try:
            with torch.no_grad():
                result = call(model, example)
        except Exception as error:
            raise ValueError(
                f"the model does not run on an example input of {shape_of(example)}: {one_line(error)}"
            ) from error
        longer = resized(example, batch_length(example) + 1)
        try:
            with torch.no_grad():
                other = call(model, longer)
        except Exception:  # it takes batches of this size alone; its weights can be written all the same
            longer, other = example, result
        lengths = (batch_length(example), batch_length(longer))
        inputs = described(input_names(model, example), example, longer, lengths)
        outputs = described(names_of(result), result, other, lengths)
        plain = result if isinstance(result, tuple) else (result,)
        if type(plain) is not tuple or not all(isinstance(part, Tensor) for part in plain):
            model = Flat(model).eval()
        return cls(model, example, inputs, outputs)

    def run(self, inputs: Inputs) -> list[Tensor]:
        with torch.no_grad():
            return tensors_of(call(self.model, inputs))


def traced(portable: Portable) -> torch.export.ExportedProgram:
    """The network as torch traces it, with a free batch dimension.

    Raises ValueError with torch's reason, in one line.
    """
    inputs = resized(portable.example, TRACED)
    args, kwargs = _arguments(inputs)
    batch = torch.export.Dim("batch", min=1)
    shapes = torch.export.ShapesCollection()
    for tensor, given in zip(tensors_of(inputs), tensors_of(portable.example), strict=True):
        if given.dim() and len(given) == batch_length(portable.example):
            shapes[tensor] = {0: batch}
    try:
        free = shapes.dynamic_shapes(portable.model, args, kwargs)
        # torch prints the whole graph on the error stream where it fails.
        with _quietly(), redirect_stderr(io.StringIO()), torch.inference_mode(False), torch.enable_grad():
            program = torch.export.export(portable.model, args, kwargs, dynamic_shapes=free, strict=False)
    except Exception as error:
        raise ValueError(
            f"torch cannot write this network as a program for any batch size: {_reason(error)}"
        ) from error
    # Neither where the source stands on this machine nor anyone's data goes into the file.
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    program.example_inputs = mapped((args, kwargs), torch.zeros_like)
    return program


def write_pt2(portable: Portable, program: torch.export.ExportedProgram, path: Path) -> None:
    """`program` as a file for `torch.export.load`. Raises ValueError where it does not compute the same."""
    try:
        with _quietly():
            file = io.BytesIO()  # in memory, since torch ends the process where a disk is full
            torch.export.save(program, file)
            write_whole(path, file.getbuffer())
            del file
            loaded = torch.export.load(path).module()
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"torch cannot write this network as {path.name}: {_reason(error)}") from error

    def run(inputs: Inputs) -> list[Tensor]:
        with torch.no_grad():
            return tensors_of(call(loaded, inputs))

    _check(run, portable, path.name, TOLERANCE["pt2"])


def write_onnx(portable: Portable, program: torch.export.ExportedProgram, path: Path) -> None:
    """`program` as one ONNX file, without external data.

    Raises ValueError where packages are missing, an operation has no ONNX form, the file would be larger
    than the 2 GB that the format allows, or onnxruntime does not compute the same.
    """
    *_, runtime = onnx_packages()
    taken = {node.name for node in program.graph.nodes if node.op != "output"}
    names = [output["name"] for output in portable.outputs]
    names = [f"{name}_output" if name in taken else name for name in names]
    try:
        with _quietly():
            exported = torch.onnx.export(program, dynamo=True, verbose=False, output_names=names)
            model = exported.model_proto  # type: ignore[union-attr]
            _tidy(model)
            write_whole(path, model.SerializeToString())
            options = runtime.SessionOptions()
            options.log_severity_level = 4
            options.intra_op_num_threads = torch.get_num_threads()
            session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"this network cannot be written as {path.name}: {_reason(error)}") from error

    def run(inputs: Inputs) -> list[Tensor]:
        given = dict(zip((i["name"] for i in portable.inputs), tensors_of(inputs), strict=True))
        wanted = [value.name for value in session.get_inputs()]
        if not set(wanted) <= given.keys():
            given = dict(zip(wanted, given.values(), strict=True))
        found = session.run(None, {name: given[name].numpy() for name in wanted})
        return [torch.as_tensor(array) for array in found]

    _check(run, portable, path.name, TOLERANCE["onnx"])


def onnx_packages() -> list[Any]:
    """onnx, onnxscript and onnxruntime. Raises ValueError naming what is missing, and the extra."""
    found, missing = [], []
    for name in ONNX_PACKAGES:
        try:
            found.append(import_module(name))
        except ImportError:
            missing.append(name)
    if missing:
        raise ValueError(
            f"ONNX needs {', '.join(missing)}, which cannot be imported here: "
            'pip install "spectral-pruning-workbench[onnx]"'
        )
    return found


def resized(inputs: Inputs, count: int) -> Inputs:
    """A batch of `count` examples from one of any size: its examples in turn."""
    length = batch_length(inputs)
    turns = torch.arange(count) % length
    return mapped(inputs, lambda t: t[turns] if t.dim() and len(t) == length else t.clone())


def _check(run: Run, portable: Portable, file: str, tolerance: float) -> None:
    for count in CHECKED:
        inputs = resized(portable.example, count)
        expected = portable.run(inputs)
        try:
            found = run(inputs)
        except Exception as error:
            raise ValueError(f"{file} does not run on a batch of {count}: {_reason(error)}") from error
        worst = max(map(distance, found, expected)) if len(found) == len(expected) else float("inf")
        least = max((torch.finfo(t.dtype).eps for t in expected if t.is_floating_point()), default=0.0)
        allowed = max(tolerance, 8 * least)
        if not worst <= allowed:
            raise ValueError(
                f"{file} does not compute what the network does: at a batch of {count} they differ by "
                f"{worst:.1e} of the largest output, where {allowed:.0e} is allowed. A network that draws "
                "random numbers cannot be written"
            )


def distance(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest finite value expected; inf where shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    if not expected.is_floating_point():
        return 0.0 if torch.equal(found.to(expected.dtype), expected) else float("inf")
    a, b = found.double(), expected.double()
    same = (a == b) | (a.isnan() & b.isnan())
    apart = torch.where(same, torch.zeros_like(b), (a - b).abs()).nan_to_num(float("inf")).max()
    scale = b[b.isfinite()].abs().max() if b.isfinite().any() else torch.ones(())
    return float(apart / scale) if apart else 0.0


def _arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return inputs if isinstance(inputs, tuple) else (inputs,), {}


def _tidy(model: Any) -> None:
    """In an ONNX model: the free dimension is called 'batch', and notes of the exporter go."""
    symbols = {
        dim.dim_param
        for value in model.graph.input
        for dim in value.type.tensor_type.shape.dim[:1]
        if dim.dim_param
    }
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, sorted(symbols)))})\b")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if symbols and dim.dim_param:
                dim.dim_param = pattern.sub("batch", dim.dim_param)
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""


def _reason(error: BaseException) -> str:
    """The exporter's words in one line, without its advice on logging."""
    text = re.sub(r"For more information, run with \S+", "", str(error))
    return one_line(ValueError(text or type(error).__name__))


@contextmanager
def _quietly() -> Iterator[None]:
    """Within: exporters neither warn nor log."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [name for name in logging.root.manager.loggerDict if name.startswith(CHATTER)]
        levels = {name: logging.getLogger(name).level for name in {*names, *CHATTER, "torch.onnx"}}
        try:
            for name in levels:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
