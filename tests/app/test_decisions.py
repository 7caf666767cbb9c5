"""Deployments whose policies differ: a decision against the order of dates is one for everybody."""

import pytest

from synchro.models import ChangeLog, Node
from tests.app.deploy import ALIASES, assert_same, carry, records, take, write
from tests.project.shop.models import City, Country, Note, Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


def exchange(policies):
    """Everybody hands everybody else what they have not got yet."""
    for source in ALIASES:
        for target in ALIASES:
            if source != target:
                carry(source, target, on_conflict=policies[target])


def lengths():
    return [Node.objects.using(alias).get(current=True).seq for alias in ALIASES]


def edited_everywhere():
    Note.objects.create(char="note")
    carry("default", "hq")
    carry("default", "ship")
    for alias in ALIASES:
        note = Note.objects.using(alias).get()
        note.text = alias
        note.save()


@pytest.mark.parametrize(
    "policies", [("local", "local", "incoming"), ("local", "incoming", "newest"), ("incoming", "incoming", "incoming")]
)
def test_nodes_with_different_policies_settle(policies):
    policies = dict(zip(ALIASES, policies, strict=True))
    edited_everywhere()
    for _ in range(3):
        exchange(policies)
    assert_same(*ALIASES)
    before = lengths()
    for _ in range(2):
        exchange(policies)
    assert lengths() == before
    assert_same(*ALIASES)


def test_links_settle_too():
    policies = {"default": "local", "hq": "local", "ship": "incoming"}
    person, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    carry("default", "hq")
    carry("default", "ship")
    person.tags.add(tag)
    for alias in ("hq", "ship"):
        tags = Person.objects.using(alias).get().tags
        tags.add(Tag.objects.using(alias).get())
        tags.clear()
    for _ in range(3):
        exchange(policies)
    before = lengths()
    exchange(policies)
    assert lengths() == before
    assert_same(*ALIASES)


def test_a_decision_travels_as_one():
    edited_everywhere()
    assert not [record for record in records(write(to="audit")[0]) if "resolution" in record]
    carry("hq", "default", on_conflict="local")  # although hq's is the later one
    data, _ = write(to="ship")
    assert [record["fields"]["text"] for record in records(data) if record.get("resolution")] == ["default"]
    take(data, "ship", on_conflict="local")
    assert Note.objects.using("ship").get().text == "default"
    relayed = [record for record in records(write("ship")[0]) if record.get("resolution")]
    assert [record["fields"]["text"] for record in relayed] == ["default"]


def test_a_parent_that_is_kept_is_a_decision():
    country = Country.objects.create(code="PL")
    carry()
    City.objects.using("hq").create(name="Wrocław", country=Country.objects.using("hq").get())
    country.delete()
    carry()
    kept = [r for r in records(write("hq")[0]) if r["model"] == "shop.country" and r.get("resolution")]
    assert [r["action"] for r in kept] == ["change"]
    assert ChangeLog.objects.using("hq").filter(resolution=True).count() == 1
