"""The programs in tools/, run as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command, **environ):
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**inherited, **environ},
        check=False,
        capture_output=True,
        text=True,
    )


def demo(folder, *options):
    return run("tools/demo.py", "--no-venv", "--limit", "60", "--dir", folder, *options)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A run of the demo: what it printed, and its folder."""
    folder = tmp_path_factory.mktemp("demo")
    done = demo(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, folder


@pytest.mark.slow
def test_the_demo_ends_with_both_sides_the_same(shown):
    printed, _ = shown
    assert "Both sides hold the same data." in printed
    assert "DIFFERENT" not in printed


@pytest.mark.slow
def test_the_demo_shows_a_conflict_with_both_versions(shown):
    printed, _ = shown
    section = printed.partition("6. What was changed on both sides")[2].partition("7. ")[0]
    assert "geo.city" in section
    assert "(surveyed)" in section
    assert "population" in section


@pytest.mark.slow
def test_the_deployments_of_the_demo_can_be_used_by_hand(shown):
    _, folder = shown
    carrier = folder / "usb"
    assert "No changes since last export." in run(folder / "office" / "manage.py", "synchro_export").stdout
    assert run(folder / "office" / "manage.py", "synchro_status").returncode == 0
    for bundle in sorted(carrier.glob("*.zst")):
        assert run("-m", "changelog_format", "verify", bundle).returncode == 0


@pytest.mark.slow
def test_the_demo_starts_afresh_and_leaves_alone_what_it_did_not_make(shown):
    _, folder = shown
    mine = folder / "usb" / "mine.txt"
    mine.write_text("keep me")
    done = demo(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert mine.read_text() == "keep me"


def test_the_demo_refuses_a_folder_that_it_did_not_make(tmp_path):
    (tmp_path / "office").mkdir()
    database = tmp_path / "office" / "db.sqlite3"
    database.write_text("precious")
    done = demo(tmp_path)
    assert done.returncode == 1
    assert "no earlier run made it" in done.stderr
    assert database.read_text() == "precious"


def test_the_demo_says_how_many_cities_it_needs(tmp_path):
    done = demo(tmp_path, "--limit", "3")
    assert done.returncode == 2
    assert "at least 60" in done.stderr


def test_the_migrations_of_the_demo_are_complete(tmp_path):
    environ = {
        "DJANGO_SETTINGS_MODULE": "deployment.settings",
        "DEMO_NODE": "office",
        "DEMO_FOLDER": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tools" / "demo")]),
    }
    done = run("-m", "django", "makemigrations", "--check", "--dry-run", **environ)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """tools/environment.py with pip left out: `installed` lists what it would have installed."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    import environment

    monkeypatch.setattr(environment, "_create", lambda folder: (folder / "bin").mkdir(parents=True, exist_ok=True))

    def install(python, requirements):
        python.write_text("")
        environment.installed.append(list(requirements))

    monkeypatch.setattr(environment, "install", install)
    monkeypatch.setattr(environment, "installed", [], raising=False)
    return environment


def test_a_virtualenv_is_reused_while_it_fits(environment, tmp_path):
    folder = tmp_path / "venv"
    assert environment.ensure(folder, ["a"]) == environment.ensure(folder, ["a"]) == folder / "bin" / "python"
    assert environment.installed == [["a"]]


def test_what_a_virtualenv_lacks_is_installed_in_addition(environment, tmp_path):
    folder = tmp_path / "venv"
    environment.ensure(folder, ["a"])
    environment.ensure(folder, ["a", "b"])
    environment.ensure(folder, ["a"])
    assert environment.installed == [["a"], ["a", "b"]]


def test_a_virtualenv_is_made_anew_when_what_it_was_made_from_has_changed(environment, tmp_path):
    folder = tmp_path / "venv"
    environment.ensure(folder, ["a"])
    stamp = folder / "synchro-stamp.json"
    content = json.loads(stamp.read_text())
    content["made_from"]["pyproject"] = "another"
    stamp.write_text(json.dumps(content))
    environment.ensure(folder, ["a"])
    assert environment.installed == [["a"], ["a"]]


def test_an_interrupted_installation_is_not_reused(environment, monkeypatch, tmp_path):
    folder = tmp_path / "venv"
    environment.ensure(folder, ["a"])

    def interrupted(python, requirements):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environment, "install", interrupted)
        with pytest.raises(KeyboardInterrupt):
            environment.ensure(folder, ["a", "b"])
    environment.ensure(folder, ["a"])
    assert environment.installed == [["a"], ["a"]]


@pytest.mark.slow
def test_under_load_no_change_is_lost_or_doubled():
    """On SQLite, where writers wait for each other; .ci/run does it on PostgreSQL."""
    done = run("tools/soak", "--database", "sqlite", "--seconds", "3", "--processes", "2", "--threads", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing was lost, nothing doubled; no gap." in done.stdout


@pytest.mark.slow
def test_the_benchmark_measures_and_tells(tmp_path):
    options = ("--no-venv", "--size", "40", "--rounds", "1", "--databases", "sqlite", "--only", "verify,touch")
    done = run("tools/bench", *options, "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verify (times as quick as the first)" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())["databases"]["sqlite"]
    measured = {(each["work"], each["name"]) for each in figures}
    assert {("verify", "synchro"), ("touch triggers: bulk_create()", "synchro")} <= measured
    assert all(each["cpu"] > 0 and each["queries"] >= 0 for each in figures)


@pytest.mark.slow
def test_how_the_work_grows_with_the_log_is_measured():
    done = run("tools/scale", "--no-venv", "--sizes", "1500,2500", "--plans")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line[:28].strip(): line[28:].split() for line in done.stdout.splitlines()}
    assert rows["sqlite, ms"] == ["1,500", "2,500"]
    assert all(float(number) > 0 for number in rows["seal 1,000"] + rows["import 1,000"])
    assert "SEARCH" in done.stdout


def test_the_test_runner_says_when_a_database_is_unknown():
    done = run("tools/test.py", "--database", "oracle")
    assert done.returncode == 2
    assert "postgres" in done.stderr
