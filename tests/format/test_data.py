"""Bundles as data for other people's tools: the README's examples, on bundles whose answers are known."""

import csv
import datetime as dt
import io
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from changelog_format import ModelInfo, NodeInfo, Origin, Position
from tests.format.samples import HQ, OFFICE, ROOT, bundle, change, header
from tests.readme import needs, needs_programs, of_chapter

CHAPTER = "Bundles are data"
COUNTRY = {"model": "shop.country", "id": f"{OFFICE}/1", "key": ["PL"]}
CITY = {"model": "shop.city", "id": f"{OFFICE}/1", "key": ["Wrocław", "PL"]}
MODELS = {
    "shop.country": ModelInfo(fields={"code": "CharField", "name": "CharField"}),
    "shop.city": ModelInfo(fields={"name": "CharField", "population": "IntegerField"}),
}


def date(day, second):
    return f"2026-11-{day}T10:11:{second}.000123Z"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The office adds a country and a city; hq passes that on, changes the city, deletes the country."""
    made = [
        change(1, **COUNTRY, date=date(23, 12), fields={"code": "PL", "name": "=1+1"}, actor="ann"),
        change(2, **CITY, date=date(23, 13), fields={"name": "Wrocław", "population": 1}, actor="ann"),
        change(
            3, **CITY, date=date(23, 14), action="change", fields={"name": "Wrocław", "population": 2}, actor="bob",
            context={"reason": "counted"},
        ),
    ]  # fmt: skip
    head = header(3, models=MODELS)
    head = replace(head, end=Position(seq=3, date=date(23, 14)))
    (tmp_path / f"{OFFICE}-000001-000003.jsonl.zst").write_bytes(bundle(head, made))
    relayed = [replace(each, origin=Origin(node=OFFICE, seq=each.seq)) for each in made]
    own = [
        change(4, **CITY, date=date(24, 15), action="change", fields={"name": "Wrocław", "population": 3}),
        change(5, **COUNTRY, date=date(24, 16), action="delete", fields=None, refs=None),
    ]
    head = replace(header(5, models=MODELS), node=NodeInfo(id=HQ, name="hq"), end=Position(seq=5, date=date(24, 16)))
    (tmp_path / f"{HQ}-000001-000005.jsonl.zst").write_bytes(bundle(head, [*relayed, *own]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def console(number):
    """What the README's console example prints."""
    block = of_chapter(CHAPTER, "console")[number]
    (command,) = block.commands
    python = command.replace("python -m", f"{sys.executable} -m")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-ec", python], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout, block


def test_zstd_and_jq(folder):
    needs_programs("zstd", "jq")
    printed, block = console(0)
    lines = printed.splitlines()
    assert len(lines) == 8
    assert block.text.splitlines()[1] in [line.replace("=1+1", "Polska") for line in lines]


def test_a_table_for_a_spreadsheet(folder):
    console(1)
    with (folder / "cities.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["fields.population"] for row in rows) == ["1", "2", "3"]


@pytest.fixture
def database(folder):
    duckdb = needs("duckdb", "data")
    connection = duckdb.connect()
    views, *queries = of_chapter(CHAPTER, "sql")
    connection.execute(views.text)
    yield lambda number: connection.execute(queries[number].text).fetchall()
    connection.close()


def test_duckdb_who_changed_what_and_when(database):
    found = database(0)
    assert [(row[1], row[2], row[3], row[4]) for row in found] == [
        (OFFICE, "ann", None, "add"), (OFFICE, "bob", "counted", "change"), (HQ, None, None, "change"),
    ]  # fmt: skip
    assert found[0][0] == dt.datetime(2026, 11, 23, 10, 11, 13, 123)  # noqa: DTZ001  DuckDB has it in UTC
    assert found[0][6] == '["Wrocław","PL"]'


def test_duckdb_what_it_was_before(database):
    assert [row[2:] for row in database(1)] == [("1", None), ("2", "1"), ("3", "2")]


def test_duckdb_what_it_looked_like_on_a_date(database):
    found = {(row[0], row[2]): json.loads(row[3]) for row in database(2)}
    assert found == {
        ("shop.country", '["PL"]'): {"code": "PL", "name": "=1+1"},
        ("shop.city", '["Wrocław","PL"]'): {"name": "Wrocław", "population": 2},
    }


def test_duckdb_who_did_how_much(database):
    assert database(3) == [
        ("(nobody named)", "change", 1), ("(nobody named)", "delete", 1), ("ann", "add", 2), ("bob", "change", 1),
    ]  # fmt: skip


def executed(number, module):
    needs(module, "data")
    block = of_chapter(CHAPTER, "python")[number]
    namespace = {}
    exec(compile(block.text, f"README.md line {block.line}", "exec"), namespace)  # noqa: S102
    return namespace


def test_pandas(folder):
    found = executed(0, "pandas")
    assert found["by_actor"].to_dict() == {("ann", "add"): 2, ("bob", "change"): 1}
    assert found["fields"]["population"].tolist()[1:] == [1, 2]
    assert str(found["dates"].dt.date.iloc[0]) == "2026-11-23"


def test_polars(folder):
    assert executed(1, "polars")["by_actor"].rows() == [("ann", "add", 2), ("bob", "change", 1)]


def test_every_example_of_the_chapter_is_run():
    numbers = {language: len(of_chapter(CHAPTER, language)) for language in ("console", "sql", "python")}
    assert numbers == {"console": 2, "sql": 5, "python": 2}
    assert io.StringIO(of_chapter(CHAPTER, "sql")[0].text).readline() == "CREATE VIEW lines AS\n"
