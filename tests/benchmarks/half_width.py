"""Every built-in example with all its groups at half width, no fine-tuning.

`python tests/benchmarks/half_width.py [NAME …] [--write]` takes some minutes on one core.
"""

import results
import torch

import workbench as wb


def halved(name: str) -> tuple[wb.Session, float, float]:
    """The session at its end, its score, and the share of the parameters that is left."""
    session = wb.Session.example(name)
    session.measure()
    for group in [g for g in session.groups if g.prunable]:
        session.commit(session.preview(group.name, width=group.width // 2))
    return session, session.evaluate(), session.parameters / session.history[0].parameters


def main() -> None:
    parser = results.options(__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(wb.EXAMPLES)} (default: all)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "| example | parameters | accuracy | at half width | parameters left |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in asked.names or wb.EXAMPLES:
        session, score, left = halved(name)
        start = session.history[0]
        lines.append(f"| `{name}` | {start.parameters:,} | {start.score:.4f} | {score:.4f} | {left:.1%} |")
    results.show("half-width", "\n".join(lines), asked.write)


if __name__ == "__main__":
    main()
