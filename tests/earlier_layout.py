"""Sessions as the version before the store wrote them, for tests of what it left behind."""

import json

from safetensors.torch import save_file

from workbench.session.recipe import TuneStep, read_steps


def save_earlier(session, folder):
    """Write `recipe.json`, `moments.safetensors`, `model.safetensors`, `steps.safetensors`, and branches."""
    with session._lock:
        session._history.settle()
        names = [session.branch, *(name for name in session.branches if name != session.branch)]
        folder.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names[1:], start=1):
            write_branch(session, name, folder / "branches" / str(number), {})
        whole = {"original": {"score": session.history[0].score}, "branches": len(names) - 1}
        moments = {
            f"{name}/{key}": value
            for name, one in session.original_statistics().items()
            for key, value in one.state().items()
        }
        write_tensors(moments, folder / "moments.safetensors")
        write_branch(session, names[0], folder, whole)
    return folder


def write_branch(session, name, folder, more):
    folder.mkdir(parents=True, exist_ok=True)
    line = session._history.named(name)
    recipe = session.recipe_of(name)
    write_tensors(line.state(line.position).model.state_dict(), folder / "model.safetensors")
    steps = {}
    made = line.changed(line.position)
    for index, (step, changed) in enumerate(zip(read_steps(recipe), made, strict=True)):
        if isinstance(step, TuneStep):
            write_tensors(changed, folder / f"tuned-{index}.safetensors")
        else:
            steps |= {f"{index}/{key}": tensor for key, tensor in changed.items()}
    if steps:
        write_tensors(steps, folder / "steps.safetensors")
    recipe |= {"branch": name, "steps_file": "steps.safetensors" if steps else ""} | more
    (folder / "recipe.json").write_text(json.dumps(recipe, indent=2, ensure_ascii=False) + "\n")


def write_tensors(tensors, path):
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path)
