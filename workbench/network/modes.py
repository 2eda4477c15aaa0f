"""What the classes that watch a network's operations have in common."""

from torch.utils._python_dispatch import TorchDispatchMode


class Watching(TorchDispatchMode):
    """A mode that sees each operation of what runs within it.

    From torch 2.10 on a mode keeps torch.compile out of itself, and for that its first operation imports the
    compiler, which takes longer than opening a small network. Ours do not, as none did before.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
