"""A census of public architectures: what the workbench, and torch-pruning, make of each.

`python tests/benchmarks/census.py [--write]` goes over whatever libraries are installed, a process a network,
and takes hours on one core the first time. What was found is kept a network a file (`--rows`), so that a run
that was broken off goes on; `--again NAME…` measures some anew, `--only LIBRARY…` and names choose.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import results
import torch
from census_attention import attention_networks
from census_beside import Beside
from census_images import image_networks
from census_networks import Network, installed, version
from census_row import Census
from census_table import Row, beside_verdict, summary, table, verdict, words
from census_torchvision import timm_networks, torchvision_networks
from census_transformers import transformers_networks
from torch import nn
from vision import declare_operators

import workbench as wb

ROWS = Path(tempfile.gettempdir()) / "workbench-census"
LIMIT = 240  # seconds for a network; torch-pruning has a third of that
MODULES = {  # what a library is imported as, where not by its own name
    "vit-pytorch": "vit_pytorch", "x-transformers": "x_transformers", "smp": "segmentation_models_pytorch",
    "monai": "monai.networks.nets", "ultralytics": "ultralytics.nn.tasks",
    "pytorchcv": "pytorchcv.model_provider",
    "audio": "torch",
}  # fmt: skip
DISTRIBUTIONS = (
    "torch", "torch-pruning", "transformers", "torchvision", "timm", "segmentation-models-pytorch",
    "vit-pytorch",
    "x-transformers", "monai", "ultralytics", "pytorchcv", "efficientnet_pytorch", "pretrainedmodels",
    "conformer",
    "demucs", "encodec",
)  # fmt: skip
QUICK = (
    "BertForSequenceClassification", "AlbertForSequenceClassification", "DistilBertForSequenceClassification",
    "GPT2LMHeadModel", "GPTNeoXForCausalLM", "OPTForCausalLM", "MambaForCausalLM",
    "ElectraForSequenceClassification",
    "BartForConditionalGeneration", "MarianMTModel", "ViTForImageClassification",
    "DeiTForImageClassification",
    "ConvNextForImageClassification", "ResNetForImageClassification", "RegNetForImageClassification",
    "BitForImageClassification", "SwinForImageClassification", "SegformerForImageClassification",
    "PoolFormerForImageClassification", "Wav2Vec2ForCTC",
)  # fmt: skip


def networks() -> list[Network]:
    """Every network of the census, those of libraries that are not installed too."""
    return [
        *transformers_networks(),
        *attention_networks(),
        *torchvision_networks(),
        *image_networks(),
        *timm_networks(),
    ]


def imported(library: str) -> str:
    """Import the library once for all its networks; what went wrong, in words."""
    module = MODULES.get(library, library)
    try:
        importlib.import_module(module)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def keeper(path: Path) -> Callable[[Row], None]:
    def keep(row: Row) -> None:
        path.with_suffix(".new").write_text(json.dumps(row), encoding="utf-8")
        path.with_suffix(".new").replace(path)

    return keep


def work(kind: type[Census] | type[Beside], network: Network, path: Path) -> None:
    """In the process of its own: what the library prints goes nowhere."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    kind(network, keeper(path)).run()


def apart(kind: type[Census] | type[Beside], network: Network, path: Path, limit: float) -> Row:
    """What a process of its own has found by its end, or by the limit."""
    path.unlink(missing_ok=True)
    way = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    process = multiprocessing.get_context(way).Process(target=work, args=(kind, network, path))
    process.start()
    process.join(limit)
    late = process.is_alive()
    if late:
        process.kill()
        process.join()
    found: Row = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"stage": "build"}
    path.unlink(missing_ok=True)
    if late:
        found |= {"timed out": True, "error": f"not done within {limit:.0f} s", "raw": False}
    elif found.get("stage") != "done" and not found.get("error"):
        found |= {"error": f"the process ended with {process.exitcode}", "raw": True}
    return found


def place(network: Network, folder: Path) -> Path:
    return folder / f"{network.key.replace('/', '__').replace(' ', '_')}.json"


def row_of(network: Network, folder: Path, limit: float) -> Row:
    """The row of a network, from the folder where it is there already."""
    path = place(network, folder)
    if path.exists():
        kept: Row = json.loads(path.read_text(encoding="utf-8"))
        return kept
    row: Row = {"library": network.library, "name": network.name}
    missing = imported(network.library)
    if missing:
        return row | {"stage": "import", "error": missing}
    row |= apart(Census, network, path.with_suffix(".ours"), limit)
    if installed("torch_pruning") and verdict(row) != "skipped":
        row["beside"] = apart(Beside, network, path.with_suffix(".theirs"), limit / 3)
    if verdict(row) != "skipped":
        keeper(path)(row)
    return row


def chosen(asked: Any) -> list[Network]:
    out = networks()
    if asked.quick:
        out = [network for network in out if network.name in QUICK]
    if asked.only:
        out = [network for network in out if network.library in asked.only]
    names = set(asked.names)
    out = [network for network in out if not names or {network.name, network.key} & names]
    return [network for network in out if not asked.kept or place(network, asked.rows).exists()]


def told(row: Row, index: int, count: int, taken: float) -> str:
    other = beside_verdict(row.get("beside"))
    said = f"{row['library']}/{row['name']}: {verdict(row)}; torch-pruning: {other}; {taken:.0f} s"
    return f"[{index}/{count}] {said}  {words(row)[:160]}"


def warm_up() -> None:
    """Import here what every network would import anew, in its own process and in its own time."""
    for module in ("torch_pruning", "transformers.modeling_utils"):
        if installed(module.partition(".")[0]):
            importlib.import_module(module)
    session = wb.Session(nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)), [torch.randn(4, 5)])
    session.measure()
    session.plan(session.macs / 2, rule="equal")


def census(wanted: Sequence[Network], folder: Path, limit: float, again: Sequence[str] = ()) -> list[Row]:
    """The rows of the networks, measured one after another, each told as it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    if installed("torchvision"):
        declare_operators()
    warm_up()
    rows = []
    for index, network in enumerate(wanted, 1):
        if {network.name, network.key, "all"} & set(again):
            place(network, folder).unlink(missing_ok=True)
        start = time.perf_counter()
        rows.append(row_of(network, folder, limit))
        print(told(rows[-1], index, len(wanted), time.perf_counter() - start), flush=True)
    return rows


def report(rows: Sequence[Row]) -> str:
    known = ", ".join(f"{name} {version(name)}" for name in DISTRIBUTIONS if version(name))
    return "\n\n".join([f"{known}; random weights, {len(rows)} networks.", summary(rows), table(rows)])


def main() -> None:
    parser = results.options(__doc__)
    parser.add_argument("names", nargs="*", help="networks, as NAME or LIBRARY/NAME; by default all")
    parser.add_argument("--rows", type=Path, default=ROWS, help=f"folder of what was found (default {ROWS})")
    parser.add_argument(
        "--again", nargs="+", default=[], metavar="NAME", help="measure anew; 'all': every one"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="LIBRARY")
    parser.add_argument("--quick", action="store_true", help="twenty small networks of transformers")
    parser.add_argument("--kept", action="store_true", help="measure nothing: tell what was found so far")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"seconds for a network (default {LIMIT})")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = census(chosen(asked), asked.rows, asked.limit, asked.again)
    results.show("census", report(rows), asked.write)


if __name__ == "__main__":
    sys.exit(main())
