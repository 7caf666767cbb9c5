"""Who may import whom. Read from the source, so that nothing has to be importable."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("changelog_format", "synchro")

# From those that call to those that are called. A module reaches modules of its own or a later row only, whether
# directly or through others. Only the package itself stands in no row: it imports what it offers when asked for it.
LAYERS = tuple(
    tuple(f"synchro.{name}" for name in row.split())
    for row in (
        (
            "management management.* admin admin.* middleware views urls status reset apps migrating checks keychecks "
            "settingchecks core utility settings requests triggers"
        ),
        "splitting pruning redating replaying",
        "conflicts exporting naming timeline importing legacy synchronizing",
        "guest taking folding assembling scanning bulk",
        (
            "trust successions media "
            "drift sending_files filing seal touches walking reconciling planner plan_links plan_merges plan_parents "
            "deciding ancestry reviving combining unlogged plan merging merging_rows merging_registers apply claims "
            "parking removing recording entitlement checkpoints numbering express express_models express_writing alike "
            "import_report lines locking resolving portable restoring restating digests "
            "settling unseen completing"
        ),
        "capture deletions cascades links changelog references versions pointing serialize nodes schemas relabelling",
        (
            "redacting upcasting embedded naturalkeys managers keyprobe registry generic ordering handlers values "
            "pgvalues storable pks tables reasons around actors intervals muting logged models dbfields options conf "
            "moments "
            "packing pause progress stored signals hints errors"
        ),
    )
)
FORBIDDEN_CALLS = {"eval", "exec", "__import__"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill"}


@cache
def sources():
    """`{module: syntax tree}` of both packages, migrations left out."""
    found = {}
    for path in sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "migrations" not in parts:
            name = ".".join(parts).removesuffix(".__init__")
            found[name] = (ast.parse(path.read_text()), path.name == "__init__.py")
    return found


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def statements(node, *, everywhere):
    """The statements that run when a module is imported; with `everywhere`, those in functions too."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            yield from (each for part in child.orelse for each in [part, *statements(part, everywhere=everywhere)])
        elif everywhere or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from statements(child, everywhere=everywhere)


def imports(module, *, everywhere=False):
    """The dotted names that a module imports; `from a import b` gives `a.b`."""
    tree, is_package = sources()[module]
    for node in statements(tree, everywhere=everywhere):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parents = parts[: len(parts) + is_package - node.level]
                base = ".".join([*parents, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def own_imports(module):
    """The modules of this project that a module imports as it is imported itself."""
    known = sources()
    found = set()
    for name in imports(module):
        target = name if name in known else name.rpartition(".")[0]
        if target in known and target != module:
            found.add(target)
    return frozenset(found)


def reached_from(module):
    """All modules of this project that come along with a module, each with the way there."""
    ways = {module: (module,)}
    waiting = [module]
    while waiting:
        current = waiting.pop()
        for name in own_imports(current) - ways.keys():
            ways[name] = (*ways[current], name)
            waiting.append(name)
    return ways


def layer(module):
    for index, names in enumerate(LAYERS):
        if any(module == name or (name.endswith(".*") and module.startswith(name[:-1])) for name in names):
            return index
    return None


def test_there_is_something_to_read():
    assert {"changelog_format.reader", "synchro.models"} <= sources().keys()
    assert "synchro.conf" in own_imports("synchro.registry")


@pytest.mark.parametrize("module", [name for name in sources() if name.startswith("changelog_format")])
def test_the_format_needs_neither_django_nor_the_app(module):
    roots = {name.partition(".")[0] for name in imports(module, everywhere=True)}
    assert not roots & {"django", "synchro", "dbsettings", "tests"}


@pytest.mark.parametrize("module", [name for name in sources() if name.startswith("synchro.")])
def test_imports_point_one_way(module):
    own = layer(module)
    assert own is not None, "give it its place in LAYERS"
    upwards = [
        " → ".join(way)
        for name, way in reached_from(module).items()
        if (there := layer(name)) is not None and there < own
    ]
    assert not upwards


@pytest.mark.parametrize("module", sources())
def test_no_module_imports_itself_by_a_detour(module):
    cycles = [" → ".join([*way, module]) for name, way in reached_from(module).items() if module in own_imports(name)]
    assert not cycles


def test_capture_does_not_know_what_becomes_of_the_log():
    later = {name for row in LAYERS[:-2] for name in row}
    assert {"synchro.seal", "synchro.importing"} <= later & sources().keys()
    assert not reached_from("synchro.capture").keys() & later


@pytest.mark.parametrize("module", sources())
def test_stored_data_is_never_run_as_code(module):
    tree, _ = sources()[module]
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & FORBIDDEN_CALLS
    assert not {name.partition(".")[0] for name in imports(module, everywhere=True)} & FORBIDDEN_MODULES
