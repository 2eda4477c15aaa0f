"""The page's modules: joined by a strict rule, complete in what they import, and no constant said twice."""

import ast
import re
from functools import cache

import pytest
import torch
from networks import mlp

from workbench.export.folder import FORMATS
from workbench.export.kinds import PROGRAMS
from workbench.measure.asking import CLASSES, METRICS
from workbench.pruning.budget import RULES
from workbench.pruning.choice import RECONSTRUCTIONS
from workbench.session.session import Session
from workbench.spectral.regression import FIT_LAM
from workbench.spectral.selection import SELECTIONS
from workbench.widgets import constants, modules
from workbench.widgets.constants import FITTED, LED_BY_LAM, page_constants

FRONT = modules.FRONT
FILES = sorted(path.name for path in FRONT.glob("*.js"))
ALL = [*FILES, modules.CONSTANTS]
PACKAGE = FRONT.parents[1]


def forget():
    modules.source.cache_clear()
    modules.read_module.cache_clear()


@pytest.fixture
def front(tmp_path, monkeypatch):
    """Writes files of a front/ of one's own and joins them: front({"a.js": text, …}, "a.js")."""

    def join(files, panel="panel.js"):
        for name, text in files.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        monkeypatch.setattr(modules, "FRONT", tmp_path)
        forget()
        return modules.joined(panel)

    yield join
    forget()


class TestJoining:
    def test_each_file_once_after_what_it_imports_and_without_imports_and_exports(self, front):
        files = {
            "one.js": "// One.\n\nexport const a = 1;\nexport function f() {\n  return a;\n}\n",
            "two.js": '// Two.\n\nimport { a } from "./one.js";\n\nexport const b = a + 1;\n',
            "panel.js": '// Panel.\nimport {\n  f,\n  a,\n} from "./one.js";\n'
            'import { b } from "./two.js";\n\n'
            "export default { f, a, b };\n",
        }
        assert front(files) == (
            "// One.\n\nconst a = 1;\nfunction f() {\n  return a;\n}\n\n"
            "// Two.\n\nconst b = a + 1;\n\n"
            "// Panel.\nexport default { f, a, b };\n"
        )

    def test_the_constants_are_a_module_like_any_other(self, front):
        text = front(
            {"panel.js": '// P.\n\nimport { LAM_MIN } from "./constants.js";\n\nconst b = LAM_MIN;\n'}
        )
        assert "\nconst LAM_MIN = 1e-10;\n" in text

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ('import { a as b } from "./one.js";', "plain names"),
            ('import { gone } from "./one.js";', "imports gone from one.js, which does not export it"),
            ('import { kept } from "./one.js";', "kept from one.js"),
            ('import * as one from "./one.js";', "import . as one"),
            ('import one from "./one.js";', "import one from"),
            ('import "./one.js";', "import ./one.js"),
            ('import { a } from "https://elsewhere/one.js";', "elsewhere"),
            ('const x = 1;\nimport { a } from "./one.js";', "import { a }"),
            ('export { a } from "./one.js";', "export { a }"),
            ("const b = 1;\nexport { b };", "export { b }"),
            ("export const [b, c] = [1, 2];", "export const"),
            ("const { b, c } = {};", "const { b, c }"),
            ("var b = 1;", "var b"),
            ("export default 1;\nexport default 2;", "export default 2"),
            ('import { a } from "./one.js";\nconst a = 2;', "both declare a"),
            ('import { again } from "./panel.js";', "does not export"),
        ],
    )
    def test_anything_else_is_refused_in_words(self, front, line, words):
        files = {"one.js": "export const a = 1;\nconst kept = 2;\n", "panel.js": line + "\n"}
        with pytest.raises(ValueError, match=re.escape(words).replace(r"\.", ".").replace("./one", ".*one")):
            front(files)

    def test_a_circle_is_named(self, front):
        circle = {
            "one.js": 'import { b } from "./panel.js";\n\nexport const a = 1;\n',
            "panel.js": 'import { a } from "./one.js";\n\nexport const b = 2;\n',
        }
        with pytest.raises(ValueError, match=r"panel.js imports one.js imports panel.js: .* circle"):
            front(circle)

    def test_a_default_export_is_the_panels_own(self, front):
        files = {
            "one.js": "export const a = 1;\nexport default a;\n",
            "panel.js": 'import { a } from "./one.js";\n\nexport default a;\n',
        }
        with pytest.raises(ValueError, match=r"one\.js: 'export default a;'"):
            front(files)


def used_names(code):
    """Names that JavaScript calls or that are in capitals, but for members, and all names that it has."""
    code = re.sub(r"(?<!:)//[^\n]*", "", code)
    code = re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', code)
    free = r"(?:(?<=\.\.\.)|(?<![.\w$]))"
    certain = set(re.findall(free + r"(\w+)(?=\()", code)) | set(re.findall(free + r"([A-Z][A-Z_]+)\b", code))
    return certain, set(re.findall(free + r"(\w+)\b", code))


def local_names(code):
    """Names that JavaScript declares anywhere, parameters among them."""
    groups = re.findall(r"const \[([\w, ]+)\]|\(([\w, ]+)\) =>|function \w*\(([^)]*)\)", code)
    listed = {name.strip() for group in groups for part in group for name in part.split(",")}
    return set(re.findall(r"(?:const|let|function) (\w+)", code)) | listed


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_what_it_uses_and_uses_what_it_imports(file):
    """The joined text would run without an import, the module would not."""
    module = modules.read_module(file, "export default" in modules.source(file))
    code = module.text
    imported = {name for names, _ in module.imports for name in names}
    certain, names = used_names(code)
    assert imported <= names
    exports = [modules.read_module(other, "export default" in modules.source(other)).exports for other in ALL]
    others = set().union(*exports)
    missing = (certain & others) - imported - local_names(code)
    assert not missing, f"{file} uses {', '.join(sorted(missing))} without importing it"


# The network before any pruning, and the event that the kernel has come or gone.
OTHER_MEANINGS = {("historyplot.js", "original"), ("shared.js", "kernel")}


@cache
def python_constants():
    """name → value of every constant in capitals, at the top of any file of the package."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for target in getattr(node, "targets", []):
                if (
                    isinstance(target, ast.Name)
                    and target.id.isupper()
                    and isinstance(node.value, ast.Constant)
                ):
                    found[target.id.strip("_")] = node.value.value
    return found


class TestConstants:
    @pytest.mark.parametrize("file", FILES)
    def test_none_is_in_a_file_of_the_page_too(self, file):
        code = re.sub(r"(?<!:)//[^\n]*", "", (FRONT / file).read_text(encoding="utf-8"))
        values = page_constants()
        declared = {name for _, name in modules.DECLARED.findall(code)}
        assert not declared & values.keys()
        assert not declared & python_constants().keys()
        written = {float(one) for one in re.findall(r"(?<![\w.])\d[\d.]*e-\d+", code)}
        assert constants.LAM_MIN not in written
        assert file not in ("math.js", "cost.js") or constants.COUNT_TOLERANCE not in written
        for name in (*SELECTIONS, *RULES, *FITTED, *FORMATS, *PROGRAMS.values(), *METRICS[1:], *CLASSES):
            assert (file, name) in OTHER_MEANINGS or f'"{name}"' not in code, f"{file} says {name} itself"

    def test_a_number_of_the_page_is_not_a_python_constants_value(self):
        page = {}
        for file in FILES:
            text = (FRONT / file).read_text(encoding="utf-8")
            for name, value in re.findall(r"^(?:export )?const ([A-Z][A-Z_]+) = ([\d.e-]+);", text, re.M):
                page[name] = float(value)
        kernel = {
            name: value for name, value in python_constants().items() if isinstance(value, (int, float))
        }
        assert page
        assert not page.keys() & kernel.keys()

    def test_every_name_has_its_words(self):
        values = page_constants()
        assert {one[0] for one in values["SELECTIONS"]} == set(SELECTIONS)
        assert {one[0] for one in values["RECONSTRUCTIONS"]} == set(RECONSTRUCTIONS)
        assert [one[0] for one in values["RULES"]] == list(RULES)
        assert [one[0] for one in values["FORMATS"]] == list(FORMATS)
        files = {one[0]: one[1] for one in values["FORMATS"]}
        assert files.items() >= PROGRAMS.items()
        assert [one[0] for one in values["METRICS"]] == ["", *METRICS]
        assert [one[0] for one in values["CLASSES"]] == ["", *CLASSES]
        assert constants.NOT_COMPARED in SELECTIONS
        marks = re.search(r"const MARKS = \{([^}]*)\}", (FRONT / "compareplot.js").read_text())[1]
        assert set(re.findall(r"(\w+):", marks)) == set(RECONSTRUCTIONS)


@pytest.fixture(scope="module")
def measured():
    torch.manual_seed(0)
    session = Session(mlp(17, 23, 13, 7), [(torch.randn(200, 17) * torch.logspace(0, -1, 17), None)])
    session.measure()
    return session


class TestWhatLambdaIsFor:
    """The panel says that some reconstructions cap λ: they do, and no others; and whose units λ moves."""

    def weights(self, session, reconstruction, lam):
        trace = session.spectrum(session.groups[0].name).trace
        options = {"width": 11, "selection": "magnitude-l1", "reconstruction": reconstruction}
        session.commit(session.preview(session.groups[0].name, lam=lam * trace, **options))
        found = torch.cat([value.flatten() for value in session.model.state_dict().values()]).clone()
        session.undo()
        return found

    @pytest.mark.parametrize("reconstruction", [r for r in RECONSTRUCTIONS if r != "none"])
    def test_above_the_cap_the_fit_is_the_same_for_the_fitted_alone(self, measured, reconstruction):
        high, higher = (self.weights(measured, reconstruction, lam) for lam in (100 * FIT_LAM, 1e-2))
        assert torch.allclose(high, higher, atol=1e-6) == (reconstruction in FITTED)

    @pytest.mark.parametrize("reconstruction", FITTED)
    def test_below_the_cap_the_fit_follows(self, measured, reconstruction):
        low, lower = (self.weights(measured, reconstruction, lam) for lam in (FIT_LAM, FIT_LAM / 1000))
        assert not torch.allclose(low, lower, atol=1e-6)

    @pytest.mark.parametrize("selection", [s for s in SELECTIONS if s != "taylor"])
    def test_units_follow_lambda_under_these_selections_alone(self, measured, selection):
        name = measured.groups[0].name
        trace = measured.spectrum(name).trace
        kept = {
            measured.preview(name, width=width, lam=lam * trace, selection=selection).kept
            for width in (7,)
            for lam in (1e-9, 1e-6, 1e-3, 1e-1, 1.0)
        }
        assert (len(kept) > 1) == (selection in LED_BY_LAM)
