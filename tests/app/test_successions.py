"""A restored backup goes on under another id: what others have under the first one, and who is waited for."""

import io
from pathlib import Path

import pytest
from django.core.management import call_command

from changelog_format import open_bundle
from synchro import export_bundle
from synchro.errors import ForkError, GapError, RequestError
from synchro.models import ChangeLog, Node, Version
from synchro.pruning import prune
from synchro.requests import answer, everything_since, missing_before, write_request
from synchro.splitting import export_parts
from synchro.status import status
from synchro.successions import earlier, successor
from tests.app.deploy import assert_same, at, brought, carry, everything, records, rolled_back, take, write
from tests.project.shop.models import Note, Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


def ident(using="default"):
    return Node.objects.using(using).get(current=True).ident


def told(data):
    with open_bundle(io.BytesIO(data)) as reader:
        return reader.header.successions


@pytest.fixture
def forked():
    """Office's position 2 went to HQ, and after a restore another change with it to SHIP."""
    Note.objects.create(char="before")
    for other in ("hq", "ship"):
        carry(target=other)
    carry("hq", "default")
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        carry()
    note = Note.objects.get()
    note.char = "after the restore"
    note.save()
    Tag.objects.create(name="new").people.add(Person.objects.create(name="p"))
    carry(target="ship")
    edited = at(Note, "ship").get()
    edited.text = "edited at the ship, on top of it"
    edited.save()
    old = ident()
    assert take(write("hq", to="office")[0], "default").new_id
    return old


def everywhere(*ways):
    for _ in range(3):
        for source, target in ways:
            carry(source, target)


def test_who_took_what_was_made_after_the_restore_under_the_old_id_takes_what_was_lost_too(forked):
    data, _ = write("hq", to="ship")
    with pytest.raises(ForkError, match="two different changes"):
        take(data, "ship")
    # The same changes, by their new names, and what was lost: a tag of the same primary key as a new one.
    assert brought(carry("default", "ship")) == {"already_known": 4, "added": 1}
    assert brought(take(data, "ship")) == {"already_known": 2}
    everywhere(("ship", "hq"), ("hq", "default"), ("default", "ship"), ("hq", "ship"))
    assert_same("default", "hq", "ship")
    assert at(Note).get().text.startswith("edited at the ship")
    second = ChangeLog.objects.using("ship").filter(origin__ident=forked, origin_seq__gt=1)
    assert [each.model for each in second] == ["shop.tag"]
    assert not Version.objects.using("ship").filter(node__ident=ident(), change_id=None).exists()


def test_what_is_passed_on_has_the_new_names(forked):
    carry("default", "ship")
    node = Node.objects.using("ship").get(current=True)
    relayed = records(write("ship", since=1, until=node.seq - 1)[0])
    makers = {each["origin"]["node"] for each in relayed if "origin" in each and each["action"] != "object"}
    assert makers == {ident()}
    assert {each["id"].partition("/")[0] for each in relayed if each["model"] in {"shop.tag", "shop.person"}} == {
        ident()
    }
    assert {each["target"]["id"] for each in relayed if "target" in each} == {
        f"{ident()}/{Tag.objects.get(name='new').pk}"
    }
    own = next(each for each in relayed if "origin" not in each)
    assert own["base_node"] == ident()


def test_everybody_who_heard_of_it_tells_of_it(forked):
    carry("default", "ship")
    (found,) = told(write("ship", to="depot")[0])
    assert (found.node, found.of, found.after) == (ident(), forked, 1)
    assert [(each.first, each.last, each.at) for each in found.moved] == [(2, 5, 1)]
    before = everything("ship")["synchro_node"]
    carry("ship", "default")
    carry("default", "ship")
    assert len(everything("ship")["synchro_node"]) == len(before)


def test_a_relay_of_the_old_names_is_known_where_the_new_ones_came_first(forked):
    old_names, _ = write("ship", to="hq")  # the ship has not heard yet
    carry("default", "hq")
    report = take(old_names)
    assert (report.added, report.changed) == (0, 1)  # only what the ship made itself
    everywhere(("ship", "hq"), ("hq", "default"), ("default", "ship"), ("hq", "ship"))
    assert_same("default", "hq", "ship")


def test_pruning_does_not_wait_for_an_id_that_somebody_went_on_from():
    note = Note.objects.create(char="a")
    carry()
    at(Tag).create(name="t")
    carry("hq", "default")
    with rolled_back("hq"):
        at(Tag).create(name="lost")
        carry("hq", "default")
    for text in "bc":
        note.char = text
        note.save()
    assert carry().new_id  # HQ was set back
    old = Node.objects.get(own=False, name="hq").ident
    assert prune(dry_run=True).upto == 1
    carry("hq", "default")
    new = ident("hq")
    report = prune()
    assert [each.name for each in report.holders if each.name.startswith("node")] == [f"node {new}"]
    assert (report.upto, report.removed) == (Node.objects.get(current=True).seq, 2)
    peers = {each.node: each.succeeded_by for each in status().peers}
    assert peers == {old: new, new: None}
    assert everything_since("hq").of == new


def test_who_has_only_been_told_of_is_waited_for(forked):
    """The old id said that it has more than the restored database has."""
    at(Note, "hq").get().save()
    carry("default", "ship")
    carry("ship", "hq")
    assert at(Node).get(ident=ident()).heard is None
    assert f"node {ident()}" in [each.name for each in prune(dry_run=True, using="hq").holders]


# --- it exports before it imports anything ----------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [False, True])
def test_what_lies_in_the_folder_shows_that_the_database_was_set_back(parts, tmp_path):
    Tag.objects.create(name="before")
    export_bundle(tmp_path, to="hq")
    old = ident()
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        lost = export_bundle(tmp_path, to="hq")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    Tag.objects.create(name="after")
    report = next(export_parts(tmp_path, max_size=10**6, to="hq")) if parts else export_bundle(tmp_path, to="hq")
    assert report.new_id == report.node == ident() != old
    assert {file: file.read_bytes() for file in before} == before  # also the one that had the same range
    call_command("synchro_import", str(tmp_path), database="hq", any_destination=True, verbosity=0)
    assert sorted(at(Tag).values_list("name", flat=True)) == ["after", "before", "lost"]
    take(Path(lost.file).read_bytes(), "default")
    carry()
    assert_same("default", "hq")


def test_the_command_says_so(tmp_path, capsys):
    Tag.objects.create(name="before")
    export_bundle(tmp_path)
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        export_bundle(tmp_path)
    Tag.objects.create(name="after")
    call_command("synchro_export", output=str(tmp_path))
    assert (
        f"restored from a backup: it had written bundles that its log does not have any more. It goes on as {ident()}"
        in (" ".join(capsys.readouterr().out.split()))
    )


def test_bundles_of_its_own_that_it_knows_and_those_of_others_show_nothing(tmp_path):
    Tag.objects.create(name="a")
    carry()
    at(Tag).create(name="b")
    export_bundle(tmp_path)
    export_bundle(tmp_path, using="hq")
    (tmp_path / f"{ident()}-000001-000099.jsonl.zst").write_bytes(b"not one")
    Tag.objects.create(name="c")
    old = ident()
    assert export_bundle(tmp_path).new_id is None
    assert ident() == old


# --- only to say what was taken ---------------------------------------------------------------------------------------


def test_a_deployment_that_only_receives_can_acknowledge(tmp_path):
    note = Note.objects.create(char="a")
    for text in "bc":
        note.char = text
        note.save()
    carry()
    assert export_bundle(tmp_path, to="default", acknowledge=True, using="ship").from_seq == 0
    # What it took is in its log, and is sent once like everything else.
    carry("hq", "default")
    note.char = "d"
    note.save()
    carry()
    carry("hq", "default")
    Note.objects.all().update(char="e")
    report = export_bundle(tmp_path, to="default", acknowledge=True, using="hq")
    assert (report.records, report.from_seq, report.to_seq, report.moved) == (0, 4, 4, False)
    assert report.file.endswith("000004-ack.jsonl.zst")
    assert export_bundle(tmp_path, to="default", using="hq") is None
    data = Path(report.file).read_bytes()
    taken = take(data, "default")
    assert (taken.records, taken.from_seq, taken.to_seq) == (0, 4, 4)
    assert Node.objects.get(name="hq").acked_seq == 4
    again = export_bundle(tmp_path, to="default", acknowledge=True, using="hq")  # with what it has by now
    assert again.file == report.file
    at(Tag).create(name="t")
    later = export_bundle(tmp_path, to="default", acknowledge=True, using="hq")
    assert (later.records, later.moved) == (1, True)


def test_the_command_acknowledges(tmp_path, capsys):
    Tag.objects.create(name="t")
    carry()
    carry("hq", "default")
    call_command("synchro_export", output=str(tmp_path), to="default", acknowledge=True, database="hq")
    assert "no changes, and what hq-" in capsys.readouterr().out
    (file,) = tmp_path.iterdir()
    call_command("synchro_import", str(file))
    assert "nothing new" in capsys.readouterr().out


@pytest.fixture
def waiting(tmp_path):
    """What office wrote for HQ in a lost future begins after a file that was lost; the ship brought the news of it."""
    Note.objects.create(char="before")
    carry(target="hq")
    carry(target="ship")
    carry("ship", "default")
    with rolled_back("default"):
        Tag.objects.create(name="on a lost stick")
        write(to="hq")
        Tag.objects.create(name="on the stick")
        late, _ = write(to="hq")
        carry(target="ship")
    path = tmp_path / "late.jsonl.zst"
    path.write_bytes(late)
    return path


def test_what_waits_under_an_id_of_before_goes_in_after_the_bundles_of_the_new_one(waiting, tmp_path):
    old = ident()
    (request,) = missing_before([waiting], using="hq")
    asked = write_request(request, tmp_path)
    assert take(write("ship", to="default")[0], "default").new_id == ident() != old
    with pytest.raises(
        RequestError, match=f"asks for the log of {old}, and this deployment goes on as {ident()}"
    ) as no:
        list(answer(asked, tmp_path))
    assert "--snapshot --to hq" in no.value.hint
    carry()
    with pytest.raises(GapError) as caught:
        take(waiting.read_bytes())
    assert f"goes on as {ident()}" in caught.value.hint
    assert "--since" not in caught.value.hint
    with pytest.raises(RequestError, match=f"{old} goes on as {ident()}"):
        missing_before([waiting], using="hq")
    assert brought(take(waiting.read_bytes(), allow_gap=True)) == {"already_known": 1}
    assert_same("default", "hq", "ship")


def test_who_goes_on_for_whom_twice():
    Note.objects.create(char="before")
    first = ident_after_restore("lost", "default")
    second = ident_after_restore("lost again", "default")
    carry(target="hq")
    node = Node.objects.get(current=True)
    assert successor(first, "hq") == successor(second, "hq") == node.ident
    assert successor(node.ident, "hq") is None
    assert earlier(node, "default") == [second, first]


def ident_after_restore(name, using):
    """The id of the deployment until now; it goes on under another one."""
    carry(target="ship")
    carry("ship", "default")
    old = ident()
    with rolled_back(using):
        Tag.objects.create(name=name)
        carry(target="ship")
    assert take(write("ship", to="default")[0], "default").new_id
    return old
