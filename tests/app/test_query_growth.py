"""What an import and a reset ask the database does not grow with what they find."""

import gc
from unittest import mock

import pytest
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from synchro import nodes, reset_synchro, retry_held, serialize, tables, versions
from synchro.models import ChangeLog, Held, Node, Version
from synchro.resolving import Slot
from synchro.seal import seal
from synchro.taking import Taking
from synchro.versions import Key
from tests.app.deploy import brought, carry, queries, rolled_back, take, write
from tests.project.plain.models import Color
from tests.project.shop.models import Car, City, Club, Country, Note, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq"])


def grows(call):
    """How many queries on hq *call* makes for few and for many; it sets up what it does itself."""
    counted = []
    for number in (5, 50):
        with rolled_back("default", "hq"):
            counted.append(queries("hq", call(number))[0])
    return counted[1] - counted[0]


def test_decisions_for_the_local_side():
    def imports(number):
        for n in range(number):
            Note.objects.create(char=str(n))
        carry()
        for alias in ("hq", "default"):
            for note in Note.objects.using(alias):
                note.text = alias
                note.save()
        data, _ = write(to="hq")
        seal("hq")

        def run():
            assert brought(take(data, on_conflict="local"))["conflicts"] == number

        return run

    assert grows(imports) == 0


def test_nodes_that_are_new():
    def imports(number):
        def run():
            idents = [f"n-{n:08x}" for n in range(number)]
            found = nodes.by_ident(idents, "hq")
            assert {ident: node.ident for ident, node in found.items()} == {ident: ident for ident in idents}
            assert Node.objects.using("hq").filter(pk__in=[node.pk for node in found.values()]).count() == number

        return run

    assert grows(imports) == 0


def test_changes_that_go_on_being_held():
    def imports(number):
        for n in range(number):
            Club.objects.create(name=str(n))
        first, _ = write(to="hq")
        Tag.objects.create(name="t")
        with override_settings(SYNCHRO_MODELS=(("shop", "Tag"),)):
            take(first)

        def run():
            with override_settings(SYNCHRO_MODELS=(("shop", "Tag"),)):
                take(write(to="x", since=number)[0])

        return run

    assert grows(imports) == 0


def test_a_reset_loads_no_change_and_keeps_what_is_held():
    for n in range(5):
        Club.objects.create(name=str(n))
    Tag.objects.create(name="t")
    data, _ = write()
    with override_settings(SYNCHRO_MODELS=(("shop", "Tag"),)):
        take(data)
    with CaptureQueriesContext(connections["hq"]) as captured:
        reset_synchro("hq")
    found = [query["sql"] for query in captured if "synchro_held" in query["sql"]]
    assert [sql.split()[0] for sql in found] == ["DELETE"]
    assert ChangeLog.objects.using("hq").count() == Held.objects.using("hq").count() == 5


@pytest.mark.parametrize("policy", ["newest", "local"])
def test_an_import_does_not_keep_the_objects_that_it_has_done_with(policy, monkeypatch):
    monkeypatch.setattr(serialize, "CHUNK", 5)
    for alias in ("default", "hq"):
        for number in range(40):
            Country.objects.using(alias).create(code=f"{number:02}", name=alias)
    data, _ = write(to="hq")
    kept = []

    def count(*_args):
        gc.collect()
        kept.append(sum(type(each) is Slot for each in gc.get_objects()))  # lazy objects wake up if asked otherwise

    count()  # of other tests
    monkeypatch.setattr(Taking, "_check_constraints", count)
    report = take(data, on_conflict=policy)
    assert (report.merged, report.conflicts) == (40, 40)
    assert kept[1] - kept[0] <= 10


def test_versions_of_links_are_read_without_the_other_links_of_their_object():
    node = Node.objects.create(ident="n-00000000", name="n")
    links = [Version(root="shop.person", pk_text="1", link=f"tags:{n}", date=n, node=node) for n in range(50)]
    Version.objects.bulk_create([*links, Version(root="shop.person", pk_text="1", date=99, node=node)])
    read, real = [], tables.among

    def among(*args):
        read.append(real(*args))
        return read[-1]

    with mock.patch.object(tables, "among", among):
        found = versions.find([Key("shop.person", "1"), Key("shop.person", "1", "tags:7")], "default")
    assert {key.link: current.stamp.date for key, current in found.items()} == {"": 99, "tags:7": 7}
    assert [len(each) for each in read] == [1, 1]  # the object, the link


def each_costs(prepare, *, at_most):
    """What one more costs, in queries on hq: at most so many, and not more where there are many of them."""
    counted = []
    for number in (4, 12, 36):
        with rolled_back("default", "hq"):
            counted.append(queries("hq", prepare(number))[0])
    few, many = (counted[1] - counted[0]) / 8, (counted[2] - counted[1]) / 24
    assert many <= few + 1, counted
    assert many <= at_most, counted


def test_each_change_that_the_database_refuses_costs_a_bounded_number_of_queries():
    def imports(number):
        color = Color.objects.using("hq").create(name="another")
        for n in range(number):
            Car.objects.create(plate=str(n))
            Car.objects.using("hq").create(plate=str(n), color=color)
        data, _ = write(to="hq")
        seal("hq")

        def run():
            assert brought(take(data)) == {"held": number}

        return run

    each_costs(imports, at_most=40)


def test_each_of_them_costs_as_little_when_it_is_tried_again():
    def imports(number):
        color = Color.objects.using("hq").create(name="another")
        for n in range(number):
            Car.objects.create(plate=str(n))
            Car.objects.using("hq").create(plate=str(n), color=color)
        carry()

        def run():
            assert retry_held(using="hq").held == number

        return run

    each_costs(imports, at_most=40)


def test_each_deletion_that_waits_for_the_end_costs_a_bounded_number_of_queries():
    def imports(number):
        for n in range(number):
            Country.objects.create(code=f"{n:02}")
        carry()
        Country.objects.all().delete()
        data, _ = write(to="hq")
        for country in Country.objects.using("hq"):
            City.objects.using("hq").create(name="new", country=country)
        seal("hq")

        def run():
            assert brought(take(data))["conflicts"] == number

        return run

    each_costs(imports, at_most=40)
