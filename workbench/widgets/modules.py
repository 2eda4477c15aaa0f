"""The page's ES modules, joined: a panel carries one text, and must run where nothing can be fetched.

Every file of front/ is a module that a browser takes as it is. Joined, the files stand one after another in
one scope, each after those it imports, without their `import` statements and the word `export`. That works
for this much of the language, and anything else is refused: named imports from "./file.js" under their own
names, right below the head comment; `export` before a declaration; one `export default`, in the panel's own
file; no name at the top level of two files, and each declared by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from workbench.widgets.constants import constants_module

FRONT = Path(__file__).parent / "front"
CONSTANTS = "constants.js"
HEAD = re.compile(r"(?:[ \t]*(?://[^\n]*)?\n)*")  # comments and empty lines
IMPORT = re.compile(r'import \{([^{}"\']*)\} from "\./(\w+\.js)";\n')
DECLARED = re.compile(r"^(export )?(?:async function\*?|function\*?|const|let|class) (\w+)", re.M)
UNTAKEN = re.compile(
    r"^[ \t]*(?:import\b|export\b(?! (?:async function|function|const|let|class)\b))"
    r"|^(?:export )?(?:var\b|(?:const|let) [\[{])",
    re.M,
)
DEFAULT = re.compile(r"^export default ", re.M)
EXPORT = re.compile(r"^export (?!default )", re.M)


@dataclass(frozen=True)
class Module:
    """One file, read: `imports` are (names, file) pairs, `names` all that it declares at its top level,
    `exports` those of them that others may import; `text` is the file as it stands in a joined one."""

    text: str
    imports: tuple[tuple[tuple[str, ...], str], ...]
    names: tuple[str, ...]
    exports: frozenset[str]


@cache
def source(file: str) -> str:
    """The text of one module of front/, or of constants.js, which is made."""
    return constants_module() if file == CONSTANTS else (FRONT / file).read_text(encoding="utf-8")


def styles(*names: str) -> str:
    """Style sheets of front/ as one, in this order."""
    return "".join((FRONT / f"{name}.css").read_text(encoding="utf-8") for name in names)


def joined(panel: str) -> str:
    """The file `panel` and all that it imports, as one module.

    Raises ValueError for what the rule above does not take: the file, and what is wrong in it.
    """
    files: dict[str, Module] = {}
    _visit(panel, files, [])
    owners: dict[str, str] = {}
    for file, module in files.items():
        for name in module.names:
            if name in owners:
                raise ValueError(f"{file} and {owners[name]} both declare {name}: give one another name")
            owners[name] = file
    return "\n".join(module.text for module in files.values())


@cache
def read_module(file: str, is_panel: bool = False) -> Module:
    """One file, taken apart; `is_panel`: it may have a default export. Raises ValueError as `joined` does."""
    code, imports = _split(file)
    checked = DEFAULT.sub("", code, count=1) if is_panel else code
    wrong = UNTAKEN.search(checked)
    if wrong:
        line = checked[wrong.start() :].lstrip().partition("\n")[0]
        raise ValueError(f"{file}: {line!r} is no import or export that joining takes (see modules.py)")
    declared = DECLARED.findall(code)
    return Module(
        EXPORT.sub("", code),
        imports,
        tuple(name for _, name in declared),
        frozenset(name for export, name in declared if export),
    )


def _visit(file: str, found: dict[str, Module], above: list[str]) -> None:
    """Put `file` into `found`, after all that it imports."""
    if file in above:
        raise ValueError(f"{' imports '.join([*above, file])}: modules must not import in a circle")
    if file in found:
        return
    module = read_module(file, not above)
    for names, other in module.imports:
        missing = sorted(set(names) - read_module(other, other in above[:1]).exports)
        if missing:
            raise ValueError(f"{file} imports {', '.join(missing)} from {other}, which does not export it")
        _visit(other, found, [*above, file])
    found[file] = module


def _split(file: str) -> tuple[str, tuple[tuple[tuple[str, ...], str], ...]]:
    """A module's text without its imports, and these: the names, and the file that they come from."""
    text, imports = source(file), []
    head = HEAD.match(text)
    at = start = head.end() if head else 0
    while found := IMPORT.match(text, at):
        names = tuple(name.strip() for name in found[1].split(",") if name.strip())
        if not all(name.isidentifier() for name in names):
            raise ValueError(f"{file}: {found[0].strip()!r} must import plain names, separated by commas")
        imports.append((names, found[2]))
        at = found.end()
    return text[:start] + text[at:].lstrip("\n"), tuple(imports)
