"""Models that change: records of older versions are lifted, those of newer ones wait."""

import io

import orjson
import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.utils import timezone

from changelog_format import Change, ObjectRecord
from synchro import capture, registry, retry_held, upcaster, upcasting
from synchro.errors import HeldError
from synchro.models import ChangeLog, Conflict, Held, HeldObject, MergedRow, Reference, RemoteReference, Schema, Version
from synchro.relabelling import follow_renames
from tests.app.deploy import assert_same, at, brought, carry, forged, lines, records, take, unchanged, write
from tests.project.plain.models import Color
from tests.project.shop.models import Car, City, Country, Note, Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


@pytest.fixture
def versions(monkeypatch):
    """Sets versions of models; upcasters that the test registers are forgotten after it."""
    monkeypatch.setattr(upcasting, "_steps", {})

    def set_to(**of_models):
        for model in (City, Color, Country, Note, Person, Tag):
            if model.__name__ in of_models:
                monkeypatch.setattr(model, "SYNCHRO_VERSION", of_models[model.__name__], raising=False)
        forget()

    def forget():
        registry.clear_caches()
        upcasting.clear_caches()
        capture.connect()

    yield set_to
    monkeypatch.undo()
    forget()


def newer(label, **more):
    """Makes a bundle's records of *label* ones of version 2, with *more* fields."""

    def change(header, found):
        header["models"][label]["version"] = 2
        for record in found:
            if record["model"] == label and "fields" in record:
                record["fields"].update(more)
                header["models"][label]["fields"].update(dict.fromkeys(more, "IntegerField"))

    return change


def older(label, edit, *, call=None):
    """Makes a bundle's records of *label* ones of the schema that *edit* makes of them, called *call* there."""

    def change(header, found):
        info = header["models"].pop(label)
        header["models"][call or label] = {**info, "version": 1}
        for record in found:
            if record["model"] == label:
                record["model"] = call or label
                if "fields" in record:
                    edit(record["fields"])
        names = {name for record in found if record["model"] == (call or label) for name in record.get("fields", ())}
        header["models"][call or label]["fields"] = dict.fromkeys(sorted(names), "CharField")

    return change


# --- older records are lifted -----------------------------------------------------------------------------------------


def test_renamed_dropped_and_added_fields(versions):
    Note.objects.create(char="x", integer=5)

    def as_it_was(fields):
        fields["letters"] = fields.pop("char")
        fields["fax"] = "12"
        del fields["text"]

    data = forged(write()[0], older("shop.note", as_it_was))
    versions(Note=2)
    upcaster("shop.note", from_version=1, renamed={"letters": "char"}, dropped=["fax"], added={"text": "none"})
    report = take(data)
    assert brought(report) == {"added": 1}
    note = at(Note).get()
    assert (note.char, note.text, note.integer) == ("x", "none", 5)
    assert [str(each) for each in report.schema] == ["shop.note: lifted from version 1 to 2"]
    logged = ChangeLog.objects.using("hq").get()
    assert logged.version == 1
    assert orjson.loads(logged.payload)["fields"]["letters"] == "x"


def test_split_and_retyped_fields_through_several_versions(versions):
    City.objects.create(name="Łódź", country=Country.objects.create(code="PL"), population=7)

    def as_it_was(fields):
        fields["name"] = "  Łódź "
        fields["size"] = f"{fields.pop('population')} people in 1820"

    data = forged(write()[0], older("shop.city", as_it_was))
    versions(City=3)

    @upcaster("shop.city", from_version=1)
    def strip(record):
        return record.having(name=record.value("name").strip()) if record.has_state else record

    @upcaster("shop.city", from_version=2)
    def split(record):
        if not record.has_state:
            return record
        size, _, _, year = record.value("size").split()
        return record.without("size").having(population=int(size), founded=f"{year}-01-01")

    assert brought(take(data)) == {"added": 2}
    city = at(City).get()
    assert (city.name, city.population, city.founded.year) == ("Łódź", 7, 1820)
    # The natural key is that of the lifted record: a later change made here finds it, and so does a third deployment.
    assert records(write("hq", until=2)[0])[1]["key"] == ["Łódź", "PL"]


def test_the_key_follows_the_fields_so_that_objects_born_on_both_sides_are_one(versions):
    Tag.objects.create(name="A")
    Tag.objects.using("hq").create(name="a")
    data = forged(write()[0], older("shop.tag", lambda fields: None))
    versions(Tag=2)

    @upcaster("shop.tag", from_version=1)
    def lower(record):
        return record.having(name=record.value("name", "").lower())

    assert brought(take(data))["merged"] == 1
    assert at(Tag).get().name == "a"


def test_deletions_and_links_are_lifted_too(versions):
    person, tag = Person.objects.create(name="Ann"), Tag.objects.create(name="t")
    person.tags.add(tag)
    carry()
    person.tags.remove(tag)
    tag.delete()

    def as_it_was(header, found):
        info = header["models"]["shop.person"]
        info["links"]["marks"] = info["links"].pop("tags")
        for record in found:
            if record.get("field") == "tags":
                record["field"] = "marks"

    data = forged(write(to="hq")[0], as_it_was)
    versions(Person=2, Tag=2)
    upcaster("shop.person", from_version=1, renamed={"marks": "tags"})
    upcaster("shop.tag", from_version=1)
    assert brought(take(data)) == {"m2m": 1, "deleted": 1}
    assert not at(Person).get().tags.exists()
    assert not at(Tag).exists()


def test_what_has_no_counterpart_any_more_is_kept_in_the_log_and_does_nothing(versions):
    Note.objects.create(char="x")
    data = forged(write()[0], older("shop.note", lambda fields: None, call="shop.legacy"))

    @upcaster("shop.legacy", from_version=1)
    def gone(record):
        return None

    assert brought(take(data)) == {"unchanged": 1}
    assert not at(Note).exists()
    assert records(write("hq")[0])[0]["model"] == "shop.legacy"


def test_a_model_that_moved_to_another_app(versions):
    Country.objects.create(code="PL", name="Poland")
    data = forged(
        write()[0], older("shop.country", lambda fields: fields.update(label=fields.pop("name")), call="geo.land")
    )
    versions(Country=2)
    upcaster("geo.land", from_version=1, moved_to="shop.Country", renamed={"label": "name"})
    assert brought(take(data)) == {"added": 1}
    assert at(Country).get().name == "Poland"
    assert ChangeLog.objects.using("hq").get().root == "shop.country"
    # Known under the present label: a later change of the object finds it.
    Country.objects.update(name="x")
    country = Country.objects.get()
    country.name = "Polska"
    country.save()
    versions(Country=1)
    assert records(write(since=1)[0])[0]["base"] is not None


def test_content_types_are_those_of_the_present_label(versions):
    versions(Country=2)
    upcaster("geo.land", from_version=1, moved_to="shop.country")
    record = ObjectRecord(
        model="contenttypes.contenttype",
        id="a-00000000/7",
        key=["geo", "land"],
        fields={"app_label": "geo", "model": "land"},
        refs={},
    )
    lifted = upcasting.lift(record, 1).record
    assert (lifted.key, lifted.fields) == (["shop", "country"], {"app_label": "shop", "model": "country"})
    assert ContentType.objects.get_by_natural_key(*lifted.key).model_class() is Country


def test_an_upcaster_that_fails_holds_the_record_with_its_reason(versions):
    Note.objects.create(char="x")
    data, _ = write()
    versions(Note=2)

    @upcaster("shop.note", from_version=1)
    def broken(record):
        raise KeyError("color")

    report = take(data)
    assert brought(report) == {"held": 1}
    assert report.held_changes[0].reason == "the upcaster of shop.note from version 1 failed: KeyError: 'color'"


def test_a_gap_holds(versions):
    Note.objects.create(char="x")
    data, _ = write()
    versions(Note=3)
    upcaster("shop.note", from_version=1)
    report = take(data)
    assert "no upcaster takes records of version 2 further" in report.held_changes[0].reason
    assert report.schema[0].held


def test_an_upcaster_may_not_change_what_the_record_is_about(versions):
    Note.objects.create(char="x")
    data, _ = write()
    versions(Note=2)

    @upcaster("shop.note", from_version=1)
    def other(record):
        return {"char": "y"}

    assert "gave no record of the same object" in take(data).held_changes[0].reason


def test_two_upcasters_of_one_version_are_refused(versions):
    upcaster("shop.note", from_version=1)
    with pytest.raises(ImproperlyConfigured, match=r"two upcasters of shop\.Note"):
        upcaster("shop.Note", from_version=1)


# --- newer records wait -----------------------------------------------------------------------------------------------


def test_t6_a_newer_record_is_held_by_the_one_in_the_middle_and_relayed_untouched(versions):
    """An old deployment between two new ones."""
    Note.objects.create(char="new", integer=3)
    Tag.objects.create(name="known")
    data = forged(write()[0], newer("shop.note", rank=1))
    assert brought(take(data)) == {"added": 1, "held": 1}
    relay, _ = write("hq")
    held = next(record for record in records(relay) if record["model"] == "shop.note")
    assert (held["version"], held["fields"]["rank"], held["fields"]["char"]) == (2, 1, "new")
    assert lines(relay)[0]["models"]["shop.note"]["versions"]["2"]["fields"]["rank"] == "IntegerField"
    versions(Note=2)
    assert take(relay, "ship").held_changes[0].reason == "shop.note has no field 'rank' here"


def test_t6_a_newer_record_goes_in_after_the_upgrade(versions):
    Note.objects.create(char="new")
    take(forged(write()[0], newer("shop.note")))
    with unchanged():
        assert brought(retry_held(dry_run=True, using="hq")) == {"held": 1}
    versions(Note=2)
    with unchanged():
        assert brought(retry_held(dry_run=True, using="hq")) == {"added": 1}
    assert brought(retry_held(using="hq")) == {"added": 1}
    assert not Held.objects.using("hq").exists()
    assert_same("default", "hq")
    upcaster("shop.note", from_version=1)
    assert brought(take(write("hq")[0], "ship")) == {"added": 1}


def test_t6_a_row_that_only_others_point_to_waits_with_them(versions):
    """It is of a model that is not tracked, and of a newer version: no record but this one brings it."""
    Car.objects.create(plate="W1", color=Color.objects.create(name="red"))
    data = forged(write()[0], newer("plain.color"))
    assert brought(take(data)) == {"held": 1}
    assert not at(Color).exists()
    assert HeldObject.objects.using("hq").get().version == 2
    relay, _ = write("hq")
    assert [(record["type"], record.get("version")) for record in records(relay)] == [("object", 2), ("change", None)]
    assert brought(take(relay, "ship")) == {"held": 1}
    versions(Color=2)
    for alias in ("hq", "ship"):
        assert brought(retry_held(using=alias)) == {"added": 1, "objects": 1}
        assert at(Car, alias).get().color.name == "red"
        assert not HeldObject.objects.using(alias).exists()


def test_a_row_that_waits_is_taken_from_its_sender_only_if_that_is_accepted(versions, settings):
    Car.objects.create(plate="W1", color=Color.objects.create(name="red"))
    take(forged(write()[0], newer("plain.color")))
    versions(Color=2)
    settings.SYNCHRO_ACCEPT = {"office": ["auth"]}
    assert not brought(retry_held(using="hq")).get("objects")
    assert not at(Color).exists()


def test_decisions_are_logged_in_the_present_version(versions):
    """Two ids that turn out to be one object: a change of this node's own."""
    versions(Tag=3)
    Tag.objects.using("hq").create(name="a")
    Tag.objects.create(name="a")
    assert brought(carry())["merged"] == 1
    data, _ = write("hq")
    assert {record.get("version") for record in records(data)} == {None}
    assert lines(data)[0]["models"]["shop.tag"]["version"] == 3


def test_an_old_an_older_and_a_new_one_in_a_row(versions):
    """A(old) → B(new) → C(old): what A made passes through B as it is, what B makes waits at C."""
    note = Note.objects.create(char="a")
    data, _ = write()
    versions(Note=2)
    upcaster("shop.note", from_version=1)
    take(data)
    mine = at(Note).get()
    mine.char = "b"
    mine.save(using="hq")
    relay, _ = write("hq")
    assert [record.get("version") for record in records(relay)] == [1, None]
    versions(Note=1)
    report = take(relay, "ship")
    assert brought(report) == {"added": 1, "held": 1}
    assert at(Note, "ship").get().char == note.char
    versions(Note=2)
    assert brought(retry_held(using="ship")) == {"changed": 1}
    assert_same("hq", "ship")


def without_text(using):
    """What is logged in version 1 is of a model that had no ``text`` yet."""
    for row in ChangeLog.objects.using(using).filter(version=1).exclude(payload=""):
        data = orjson.loads(row.payload)
        (data["fields"] if row.imported else data).pop("text", None)
        ChangeLog.objects.using(using).filter(pk=row.pk).update(payload=orjson.dumps(data).decode())


def one_site_first(versions, policy):
    """The office has version 2 and says what the text is; hq edits the note later, and is upgraded after that."""
    Note.objects.create(char="x")
    carry("default", "hq")
    for using in ("default", "hq"):
        without_text(using)
    versions(Note=2)
    note = Note.objects.get()
    note.text = "nuts"
    note.save()
    told = write()[0]
    versions(Note=1)
    assert take(told, on_conflict=policy).held == 1
    note = at(Note).get()
    note.char = "edited"
    note.save()
    write("hq")
    without_text("hq")
    edited = write("hq", since=0)[0]
    versions(Note=2)
    take(edited, "default", on_conflict=policy)
    retry_held(on_conflict=policy, using="hq")
    for _ in range(2):
        for source, target in (("default", "hq"), ("hq", "default")):
            carry(source, target, on_conflict=policy)
    assert_same("default", "hq")
    return at(Note).get()


@pytest.mark.parametrize("policy", ["newest", "merge"])
def test_a_later_version_of_an_older_schema_says_nothing_of_fields_that_it_did_not_have(versions, policy):
    note = one_site_first(versions, policy)
    assert (note.char, note.text) == ("edited", "nuts")


def test_what_both_sides_were_made_on_is_lifted_for_a_merge(versions):
    def with_upcaster(**of_models):
        versions(**of_models)
        if of_models == {"Note": 2} and not upcasting.steps():
            upcaster("shop.note", from_version=1, added={"text": ""})
            upcasting.clear_caches()

    note = one_site_first(with_upcaster, "merge")
    assert (note.char, note.text) == ("edited", "nuts")


def test_strict_refuses_before_anything_is_written_and_names_model_and_field(versions):
    Note.objects.create(char="x")
    data = forged(write()[0], newer("shop.note", rank=1))
    with unchanged(), pytest.raises(HeldError) as caught:
        take(data, strict=True)
    assert "shop.note: held until this deployment is upgraded: version 2 there, 1 here (not known here: rank)" in str(
        caught.value
    )
    take(data)
    assert take(data, strict=True).already_known == 1  # what is known already needs no schema


def test_what_differs_is_said_before_anything_is_written(versions):
    Note.objects.create(char="x")
    data = forged(write()[0], newer("shop.note", rank=1))
    told = []
    before = ChangeLog.objects.using("hq").count()
    take(data, notify=lambda difference: told.append((difference, ChangeLog.objects.using("hq").count())))
    ((difference, then),) = told
    assert (difference.model, difference.there, difference.here, difference.fields) == ("shop.note", 2, 1, ("rank",))
    assert then == before


def test_the_command(versions, tmp_path):
    Note.objects.create(char="x")
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(forged(write()[0], newer("shop.note", rank=1)))

    def run(*args):
        out = io.StringIO()
        call_command("synchro_import", *args, database="hq", stdout=out, no_color=True)
        return out.getvalue()

    warning = (
        "schema: shop.note: held until this deployment is upgraded: version 2 there, 1 here (not known here: rank)"
    )
    with unchanged():
        assert warning in run(str(path), "--dry-run")
        assert orjson.loads(run(str(path), "--dry-run", "--json"))["schema"] == [
            {
                "model": "shop.note",
                "there": 2,
                "here": 1,
                "fields": ["rank"],
                "held": True,
                "reason": warning.partition("note: ")[2],
            }
        ]
    assert warning in run(str(path))
    assert "1 change was held: 1 held." in run("--retry-held", "--dry-run")
    assert orjson.loads(run("--retry-held", "--json"))["held"] == 1


# --- what this deployment logged before it was upgraded ---------------------------------------------------------------


def noted(label, version, **info):
    """This deployment had *version* of *label* once, and noted what it was."""
    told = {"version": version, "key": None, "fields": {}, "skipped": [], "relations": {}, "links": {}, **info}
    info = orjson.dumps({"info": told}).decode()
    Schema.objects.update_or_create(model=label, version=version, own=True, defaults={"info": info})


def test_a_change_is_exported_in_the_version_in_which_it_was_logged(versions):
    """Foreign key and m2m field had other names, and the model a field more."""
    city = City.objects.create(name="Łódź", country=Country.objects.create(code="PL"))
    person, tag = Person.objects.create(name="Ann", city=city), Tag.objects.create(name="t")
    person.tags.add(tag)
    row = ChangeLog.objects.get(model="shop.person", link="")
    state = orjson.loads(row.payload)
    row.payload = orjson.dumps(
        {**{n: v for n, v in state.items() if n != "city"}, "home": city.pk, "fax": "1"}
    ).decode()
    row.save()
    ChangeLog.objects.filter(model="shop.person", action="link").update(link=f"marks:{tag.pk}")
    noted(
        "shop.person",
        1,
        fields={"name": "CharField", "home": "ForeignKey", "fax": "CharField", "boss": "ForeignKey"},
        relations={"home": "shop.city", "boss": "shop.person"},
        links={"marks": "shop.tag", "friends": "shop.person"},
    )
    versions(Person=2)
    upcaster("shop.person", from_version=1, renamed={"home": "city", "marks": "tags"}, dropped=["fax"])
    data, _ = write()
    record = next(each for each in records(data) if each["model"] == "shop.person" and each["action"] == "add")
    assert record["version"] == 1
    assert record["fields"]["home"] == ["Łódź", "PL"]
    assert record["refs"]["home"].endswith(f"/{city.pk}")
    link = next(each for each in records(data) if each["action"] == "link")
    assert (link["version"], link["field"], link["target"]["key"]) == (1, "marks", ["t"])
    info = lines(data)[0]["models"]["shop.person"]
    assert (info["version"], info["versions"]["1"]["relations"]["home"]) == (2, "shop.city")
    assert take(data).held == 0
    assert_same("default", "hq")
    # What it is called now is what a removal is compared with.
    person.tags.remove(tag)
    assert brought(take(write(since=5)[0])) == {"m2m": 1}
    assert_same("default", "hq")


def test_a_renamed_model_keeps_its_history_and_ids(versions):
    """As if shop.country had been called geo.land here, and objects had come from elsewhere."""
    Country.objects.using("ship").create(code="PL", name="a")
    carry("ship", "default")
    Country.objects.create(code="DE")
    for model, column in ((ChangeLog, "root"), (Version, "root"), (Reference, "model")):
        model.objects.filter(**{column: "shop.country"}).update(**{column: "geo.land"})
    for row in ChangeLog.objects.all():
        row.model, row.payload = "geo.land", row.payload.replace("shop.country", "geo.land")
        row.save()
    noted("geo.land", 1, fields={"code": "CharField", "name": "CharField"}, key=["code"])
    versions(Country=2)
    upcaster("geo.land", from_version=1, moved_to="shop.country")
    poland = Country.objects.get(code="PL")
    poland.name = "b"
    poland.save()
    data, _ = write()
    assert [(r["model"], r.get("version"), r["key"]) for r in records(data)] == [
        ("geo.land", None, ["PL"]),
        ("geo.land", None, ["DE"]),
        ("shop.country", None, ["PL"]),
    ]
    assert records(data)[2]["id"].startswith("ship-")
    assert records(data)[2]["base"] == records(data)[0]["date"]
    assert not Version.objects.filter(root="geo.land").exists()
    assert not Reference.objects.filter(model="geo.land").exists()
    assert brought(take(data)) == {"added": 2, "changed": 1}
    assert_same("default", "hq")


def test_following_renames_twice_changes_nothing_more(versions):
    Country.objects.create(code="PL")
    write()
    Version.objects.filter(root="shop.country").update(root="geo.land")
    versions(Country=2)
    upcaster("geo.land", from_version=1, moved_to="shop.country")
    follow_renames("default")
    with unchanged("default"):
        follow_renames("default")
    assert Version.objects.get().root == "shop.country"


def test_what_is_known_twice_is_known_once_after_a_rename(versions):
    Country.objects.create(code="PL")
    write()
    newest = Version.objects.get(root="shop.country")
    Version.objects.create(root="geo.land", pk_text=newest.pk_text, date=newest.date - 1, node=newest.node)
    Reference.objects.create(model="shop.country", object_id="a-00000000/1", pk_text="1")
    Reference.objects.create(model="geo.land", object_id="a-00000000/1", pk_text="1")
    versions(Country=2)
    upcaster("geo.land", from_version=1, moved_to="shop.country")
    follow_renames("default")
    assert Version.objects.get().date == newest.date
    assert Reference.objects.get().model == "shop.country"


def held_link(model, link):
    return Conflict.objects.create(
        model=model, object_id="a-00000000/1", pk_text="1", kind="link", local="{}", incoming="{}", winner="held",
        policy="hold", created=timezone.now(), link=link, held=True,
    )  # fmt: skip


def test_merges_rows_of_a_remote_and_conflicts_follow_a_rename(versions):
    one, other = held_link("geo.human", "marks:7"), held_link("shop.tag", "marks:7")
    MergedRow.objects.create(root="geo.human", pk_text="1", into="2")
    MergedRow.objects.create(root="geo.human", pk_text="3", into="4")
    MergedRow.objects.create(root="shop.person", pk_text="3", into="4")
    RemoteReference.objects.create(remote="r", model="geo.human", pk_text="1", remote_pk_text="7")
    RemoteReference.objects.create(remote="r", model="geo.human", pk_text="2", remote_pk_text="8")
    RemoteReference.objects.create(remote="r", model="shop.person", pk_text="2", remote_pk_text="9")
    RemoteReference.objects.create(remote="s", model="geo.human", pk_text="2", remote_pk_text="6")
    versions(Person=3)
    upcaster("geo.human", from_version=1, moved_to="shop.person")
    upcaster("shop.person", from_version=2, renamed={"marks": "tags"})
    follow_renames("default")
    assert sorted(MergedRow.objects.values_list("root", "pk_text", "into")) == [
        ("shop.person", "1", "2"),
        ("shop.person", "3", "4"),
    ]
    assert sorted(RemoteReference.objects.values_list("remote", "model", "pk_text", "remote_pk_text")) == [
        ("r", "shop.person", "1", "7"),
        ("r", "shop.person", "2", "9"),
        ("s", "shop.person", "2", "6"),
    ]
    found = dict(Conflict.objects.values_list("pk", "model")), dict(Conflict.objects.values_list("pk", "link"))
    assert found == ({one.pk: "shop.person", other.pk: "shop.tag"}, {one.pk: "tags:7", other.pk: "marks:7"})


def test_schemas_are_noted_when_changes_are_numbered():
    Note.objects.create(char="x")
    write()
    info = orjson.loads(Schema.objects.get(model="shop.note", version=1, own=True).info)["info"]
    assert info["fields"]["char"] == "CharField"
    before = list(Schema.objects.values())
    Note.objects.create(char="y")
    write()
    assert list(Schema.objects.values()) == before


# --- checks -----------------------------------------------------------------------------------------------------------


def found_by_checks():
    return {message.id: message.msg for message in run_checks() if message.id.startswith("synchro.")}


def test_a_version_without_upcasters_is_warned_about(versions):
    versions(Note=2)
    assert "shop.Note is of version 2" in found_by_checks()["synchro.W020"]


def test_the_version_of_a_model_that_one_cannot_edit(versions, settings):
    settings.SYNCHRO_VERSIONS = {"shop.Note": 2}
    assert registry.spec(Note).version == 2
    settings.SYNCHRO_VERSIONS = {"shop.note": "2"}
    assert "SYNCHRO_VERSIONS has '2' for shop.note" in found_by_checks()["synchro.E022"]


def test_a_gap_between_upcasters_is_an_error(versions):
    versions(Note=4)
    upcaster("shop.note", from_version=1)
    upcaster("shop.note", from_version=3)
    assert "no upcaster takes records of version 2 further" in found_by_checks()["synchro.E020"]


@pytest.mark.parametrize(
    ("label", "options", "text"),
    [
        ("shop.note", {"from_version": 5}, "shop.note is of version 1"),
        ("shop.gone", {"from_version": 1, "moved_to": "shop.nowhere"}, "leads to shop.nowhere, which is not installed"),
        ("shop.note", {"from_version": 1, "moved_to": "shop.country"}, "shop.note is still installed with version 1"),
        ("shop.tag", {"from_version": 1, "renamed": {"a": "nothing"}}, "shop.tag has no field 'nothing'"),
        ("shop.tag", {"from_version": 1, "added": {"nothing": 1}}, "shop.tag has no field 'nothing'"),
    ],
)
def test_misuse_is_an_error(versions, label, options, text):
    versions(Tag=2)
    upcaster(label, **options)
    assert text in found_by_checks()["synchro.E021"]


def test_two_models_cannot_become_one(versions):
    versions(Note=2)
    upcaster("shop.a", from_version=1, moved_to="shop.note")
    upcaster("shop.b", from_version=1, moved_to="shop.note")
    assert "shop.a and shop.b" in found_by_checks()["synchro.E021"]


def test_upcasters_that_are_in_order_say_nothing(versions):
    versions(Note=3)
    upcaster("shop.memo", from_version=1, moved_to="shop.note", renamed={"letters": "char"})
    upcaster("shop.note", from_version=2)(lambda record: record)
    assert not {"synchro.E020", "synchro.E021", "synchro.W020"} & found_by_checks().keys()


def test_a_change_record_is_not_copied_where_nothing_is_to_be_lifted(versions):
    versions()
    record = Change(seq=1, date="", base=None, action="delete", model="shop.note", id="a-00000000/1", key=None)
    assert upcasting.lift(record, 1).record is record
