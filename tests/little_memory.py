"""Memory that ends at a certain operation of torch, as the allocators themselves say it."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ERRORS = {
    "torch": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
        "to allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "CUDA": lambda: torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 4.29 GiB. GPU 0 has a total"
    ),
    "NumPy": lambda: MemoryError("Unable to allocate 4.29 GiB for an array with shape (9, 9)"),
    "Python": MemoryError,
}


class Memory(TorchDispatchMode):
    """Counts operations of torch; the one with number `at` finds no memory."""

    def __init__(self, at=-1, error=MemoryError):
        super().__init__()
        self.at, self.count, self.error = at, 0, error

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        if self.count == self.at + 1:
            raise self.error()
        return function(*args, **(kwargs or {}))
