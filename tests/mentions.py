"""An account of its own of which parameters a session speaks of."""


def mentioned(model, groups):
    """Names of the parameters that a group speaks of: an account of its own."""
    out = set()
    for group in groups:
        for part in (*group.writers, *group.norms, *group.readers):
            own = model.get_submodule(part.module)._parameters
            out |= {f"{part.module}.{key}".lstrip(".") for key, value in own.items() if value is not None}
        out |= {f"{held.module}.{held.tensor}".lstrip(".") for held in group.held}
    return out


def unmentioned(session):
    """Parameters of which neither groups nor list speak; none is in both, and each has a reason."""
    model = session.model
    first = {id(p): name for name, p in model.named_parameters()}
    every = {name: first[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}
    in_groups = {every[name] for name in mentioned(model, session.groups) if name in every}
    stays = {one.name: one for one in session.stays}
    assert len(stays) == len(session.stays)
    assert in_groups | set(stays) <= set(first.values())
    assert not in_groups & set(stays)
    for name, one in stays.items():
        assert one.numbers == model.get_parameter(name).numel()
        assert one.why_not, name
    for group in session.groups:
        assert group.prunable or group.why_not
    return set(first.values()) - in_groups - set(stays)
