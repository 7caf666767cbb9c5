"""What the command line tells of changes in several bundles: cat with options, diff, stats."""

import csv
import io
import json
from dataclasses import replace

import pytest

from changelog_format import NodeInfo, Origin, Position, Target
from changelog_format.__main__ import main
from tests.format.samples import HQ, OFFICE, bundle, change, day, header, object_record, relayed

CITY = {"action": "change", "id": f"{OFFICE}/1", "key": ["Wrocław"]}


def link(seq, tag, action="link", **values):
    body = {"action": action, "fields": None, "refs": None, "field": "tags"}
    return change(seq, **CITY | body | {"target": Target(model="geo.tag", id=f"{HQ}/{tag}", key=[tag])} | values)


def write(path, head, records):
    path.write_bytes(bundle(head, records))
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """Two nodes: the office made a city, changed and tagged it; hq took that over, changed it again, made another."""
    born = CITY | {"action": "add", "fields": {"name": "Breslau", "size": 1}}
    office = [
        change(1, **born, actor="ann"),
        change(2, **CITY | {"fields": {"name": "Wrocław", "size": 1}}, actor="bob", context={"reason": "renamed"}),
        link(3, "old"),
        link(4, "old", "unlink"),
        link(5, "new"),
    ]
    write(tmp_path / "office.jsonl.zst", header(5), office)
    passed_on = [
        change(1, **born, actor="ann", origin=Origin(node=OFFICE, seq=1)),
        change(2, id=f"{HQ}/7", key=["Legnica"], fields={"name": "Legnica", "size": 5}, date=day(6)),
        change(3, **CITY | {"fields": {"name": "Wrocław", "size": 9}}, date=day(7), base=day(2), base_node=OFFICE),
        change(4, action="delete", id=f"{HQ}/7", key=["Legnica"], fields=None, refs=None, date=day(8)),
    ]  # fmt: skip
    head = replace(header(4, node=NodeInfo(id=HQ, name="hq")), end=Position(seq=4, date=day(8)))
    write(tmp_path / "hq.jsonl.zst", head, passed_on)
    return tmp_path


def said(capfd, *arguments, status=0):
    assert main(list(map(str, arguments))) == status
    return capfd.readouterr().out


def rows(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_table_has_each_change_once_and_a_column_a_field(folder, capfd):
    found = rows(said(capfd, "cat", "--csv", folder))
    assert [(row["node"], row["seq"]) for row in found] == [
        *((OFFICE, "1"), (HQ, "2"), (HQ, "3"), (HQ, "4")),
        *((OFFICE, str(seq)) for seq in (2, 3, 4, 5)),
    ]
    by_mark = {(row["node"], row["seq"]): row for row in found}
    renamed = by_mark[OFFICE, "2"]
    assert (renamed["actor"], renamed["reason"], renamed["fields.name"], renamed["fields.size"]) == (
        "bob", "renamed", "Wrocław", "1",
    )  # fmt: skip
    assert by_mark[OFFICE, "3"]["target"] == '["old"]'
    assert by_mark[OFFICE, "3"]["fields.name"] == ""


def test_a_table_tells_null_from_an_empty_text_and_quotes_what_it_must(tmp_path, capfdbinary):
    fields = {"name": "", "size": None}, {"name": 'a "b",\r\nc', "size": {"deep": [True]}}
    path = write(tmp_path / "a.jsonl.zst", header(2), [change(n, fields=each) for n, each in enumerate(fields, 1)])
    assert main(["cat", "--csv", path]) == 0
    out = capfdbinary.readouterr().out
    assert out.splitlines()[1].endswith(b',"",,')
    assert out.endswith(b',"a ""b"",\r\nc","{""deep"":[true]}",\r\n')


def test_what_the_header_does_not_name_is_in_the_last_column(tmp_path, capfd):
    path = write(tmp_path / "a.jsonl.zst", header(1), [relayed(1, fields={"name": "a", "later": 3})])
    assert rows(said(capfd, "cat", "--csv", path))[0]["others"] == '{"later":3}'


def test_a_squash_has_the_newest_state_and_the_newest_of_each_link(folder, capfd):
    lines = [json.loads(line) for line in said(capfd, "cat", "--squash", folder).splitlines()]
    told = {(line["id"], line["action"], (line.get("target") or {}).get("id")): line for line in lines}
    assert told.keys() == {
        (f"{OFFICE}/1", "change", None),
        (f"{OFFICE}/1", "unlink", f"{HQ}/old"),
        (f"{OFFICE}/1", "link", f"{HQ}/new"),
        (f"{HQ}/7", "delete", None),
    }
    assert told[f"{OFFICE}/1", "change", None]["fields"]["size"] == 9


def test_a_squash_until_a_date_is_how_things_were_then(folder, capfd):
    lines = [json.loads(line) for line in said(capfd, "cat", "--squash", "--until", day(6), folder).splitlines()]
    states = {line["id"]: line["fields"] for line in lines if "fields" in line}
    assert states == {f"{OFFICE}/1": {"name": "Wrocław", "size": 1}, f"{HQ}/7": {"name": "Legnica", "size": 5}}
    assert len(rows(said(capfd, "cat", "--csv", "--until", "2026-11-01", folder))) == 8
    assert rows(said(capfd, "cat", "--csv", "--until", "2026-10", folder)) == []


def test_objects_that_were_merged_are_one(tmp_path, capfd):
    other = f"{HQ}/7"
    merge = {"action": "same", "fields": None, "refs": None, "id": other, "same": (other, f"{OFFICE}/1")}
    records = [
        change(1, **CITY | {"action": "add", "fields": {"name": "a", "size": 1}}),
        relayed(2, id=other, fields={"name": "b", "size": 2}),
        change(3, **merge),
    ]
    path = write(tmp_path / "a.jsonl.zst", header(3), records)
    lines = [json.loads(line) for line in said(capfd, "cat", "--squash", path).splitlines()]
    assert [line["fields"]["name"] for line in lines] == ["b"]


def test_models_are_chosen(tmp_path, capfd):
    path = write(tmp_path / "a.jsonl.zst", header(2), [change(1), change(2, model="geo.tag", fields={}, refs={})])
    assert [row["model"] for row in rows(said(capfd, "cat", "--csv", "--model", "geo.TAG", path))] == ["geo.tag"]


def test_several_files_and_standard_input(folder, capfd, monkeypatch):
    text = said(capfd, "cat", folder)
    assert text.count('{"type":"header"') == 2
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((folder / "hq.jsonl.zst").read_bytes())))
    assert len(rows(said(capfd, "cat", "--csv", "-"))) == 4


def test_nothing_differs_from_itself(folder, capfd):
    assert said(capfd, "diff", folder, folder) == "No differences.\n"
    assert said(capfd, "diff", "--json", folder, folder) == ""


def test_a_difference_is_told_field_by_field(folder, capfd):
    text = said(capfd, "diff", folder / "office.jsonl.zst", folder, status=4)
    assert f'geo.city ["Wrocław"] ({OFFICE}/1)\n' in text
    assert f"  A: {day(2)} at {OFFICE} by bob\n  B: {day(7)} at {HQ}\n    size: 1 → 9\n" in text
    assert text.endswith("1 object differs, 0 only in A, 0 only in B.\n")
    assert "name" not in text
    found = [
        json.loads(line)
        for line in said(capfd, "diff", "--json", folder / "office.jsonl.zst", folder, status=4).splitlines()
    ]
    assert [each["fields"] for each in found] == [{"size": {"a": 1, "b": 9}}]


def test_links_and_objects_of_one_side_only(tmp_path, folder, capfd):
    made = [change(1, **CITY | {"action": "add", "fields": {"name": "Wrocław", "size": 1}}), change(2)]
    only = write(tmp_path / "only.jsonl.zst", header(2), made)
    text = said(capfd, "diff", only, folder / "office.jsonl.zst", status=4)
    assert '  + tags: ["new"]\n' in text
    assert f"geo.city {OFFICE}/2, only in A\n" in text
    assert text.endswith("1 object differs, 1 only in A, 0 only in B.\n")


def test_an_object_without_a_common_id_is_known_by_its_key(tmp_path, capfd):
    fields = {"name": "Wrocław", "size": 1}
    one = write(tmp_path / "1.jsonl.zst", header(1), [change(1, key=["Wrocław"], fields=fields)])
    other = write(tmp_path / "2.jsonl.zst", header(1), [change(1, id=f"{HQ}/7", key=["Wrocław"], fields=fields)])
    assert said(capfd, "diff", one, other) == "No differences.\n"


def test_true_is_not_one(tmp_path, capfd):
    one, other = (
        write(tmp_path / f"{value!r}.jsonl.zst", header(1), [change(1, fields={"size": value})]) for value in (True, 1)
    )
    assert "size: true → 1" in said(capfd, "diff", one, other, status=4)


def test_the_numbers_count_each_change_once(folder, capfd):
    found = json.loads(said(capfd, "stats", "--json", folder))
    assert (found["files"], found["records"], found["changes"], found["repeated"]) == (2, 9, 8, 1)
    city = found["models"]["geo.city"]
    assert (city["objects"], city["add"], city["change"], city["delete"], city["link"]) == (2, 2, 2, 1, 2)
    assert found["origins"][HQ] == {"changes": 3, "first": day(6), "last": day(8)}
    assert found["actors"] == {"": 6, "ann": 1, "bob": 1}
    assert found["bytes"] == sum(path.stat().st_size for path in folder.glob("*.zst"))
    text = said(capfd, "stats", folder)
    assert text.startswith("2 bundles, 9 records (1 change more than once)")
    assert "(nobody named)" in text


def test_carried_objects_are_counted_apart(tmp_path, capfd):
    path = write(tmp_path / "a.jsonl.zst", header(1), [object_record(), change(1)])
    found = json.loads(said(capfd, "stats", "--json", path))
    assert (found["carried_objects"], found["changes"]) == (1, 1)


@pytest.mark.parametrize("command", [["cat", "--csv"], ["cat"], ["diff", "-"], ["stats"]])
def test_the_file_that_is_damaged_is_named(command, folder, capfd, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((folder / "hq.jsonl.zst").read_bytes())))
    path = folder / "z.jsonl.zst"
    path.write_bytes((folder / "hq.jsonl.zst").read_bytes()[:-5])
    assert main([*command, str(folder)]) == 1
    assert capfd.readouterr().err.startswith(f"{path}: byte ")


def test_folders_without_bundles_and_dates_that_are_none(tmp_path, capfd):
    assert main(["stats", str(tmp_path)]) == 3
    assert capfd.readouterr().err == f"{tmp_path}: has no bundles (*.jsonl.zst)\n"
    with pytest.raises(SystemExit) as caught:
        main(["cat", "--until", "yesterday", str(tmp_path)])
    assert caught.value.code == 2
