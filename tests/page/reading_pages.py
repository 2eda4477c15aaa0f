"""Reading a page in Python, as a stranger would who has its file alone."""

import json
import re

from workbench.page.packing import unpacked


def values_of(page):
    """What the page was written with."""
    (text,) = re.findall(r'<script id="values" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def paths_of(layer):
    """(λ/Tr Σ, order, input losses, output losses) of each path."""
    paths, at, start = layer["paths"], 0, 0
    order, inputs, outputs = (unpacked(paths[key]) for key in ("order", "input", "output"))
    for lam, size in zip(paths["lams"], paths["sizes"], strict=True):
        ends = slice(start, start + size + 1)
        yield lam, order[at : at + size], inputs[ends], outputs[ends]
        at, start = at + size, start + size + 1
