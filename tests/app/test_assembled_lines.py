"""Lines that are put together straight from the log are those of the records that the translator makes of it."""

import os
from unittest import mock

import pytest
from django.db.models import QuerySet
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from synchro import acting, exporting, serialize
from synchro.assembling import Run
from synchro.models import ChangeLog
from tests.app.deploy import records, rolled_back, take, write
from tests.app.logged import tracking
from tests.app.test_zoo_property import Zoo, before, steps
from tests.project.shop.models import City, Country

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])

EXAMPLES = 300 if os.environ.get("SYNCHRO_SLOW") else 12


def both(using):
    """The whole log of *using* as a bundle of assembled lines, and as one of records."""

    def as_records(header, node, alias):
        for part in exporting._records(header, node, alias):
            yield from exporting.without_contents(part)

    found, _ = write(using, since=0, to="compared")
    with mock.patch.object(exporting, "_assembled", as_records):
        slowly, _ = write(using, since=0, to="compared")
    return found, slowly


@settings(
    max_examples=EXAMPLES,
    # Making an example smaller takes minutes; what was tried is printed.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(steps, min_size=5, max_size=40), st.lists(steps, max_size=20), st.sampled_from((1000, 7)))
def test_both_ways_give_the_same_bundle_also_of_what_was_relayed(script, later, chunk):
    with tracking("zoo"), rolled_back(), mock.patch.object(serialize, "CHUNK", chunk):
        for number, alias in enumerate(("default", "hq", "ship")):
            before(alias, number)
        for using, part in (("default", script), ("hq", later)):
            office = Zoo(using)
            for name, *each in part:
                if name != "export":
                    with acting("ann" if each[0] % 2 else None, "why" if each[1] % 2 else None):
                        office.do(name, *each)
            data, report = write(using, since=0)
            if report is None:
                continue
            found, slowly = both(using)
            assert found == slowly
            if using == "default":
                take(data, "hq")


def assembled(using="default"):
    """The runs and records that an export of everything consists of."""
    seen = []

    def watched(*args):
        for part in real(*args):
            seen.append(part)
            yield part

    real = exporting._assembled
    with mock.patch.object(exporting, "_assembled", watched):
        write(using, since=0, to="watched")
    return seen


def test_usual_changes_are_assembled():
    country = Country.objects.create(code="pl", name="Poland")
    City.objects.create(name="Wrocław", country=country, population=1, extra={"a": [1, None]})
    (run,) = assembled()
    assert isinstance(run, Run)
    assert len(run.lines) == 2


def test_what_the_log_should_not_hold_is_checked_as_a_record_and_refused():
    Country.objects.create(code="pl", name="Poland")
    write()
    log = QuerySet(ChangeLog)
    log.update(payload='{"code":"pl","name":{"$what":1}}')
    with pytest.raises(exporting.ExportError, match=r"SPEC R18"):
        write(since=0)


def test_another_spelling_in_the_log_is_no_other_line():
    Country.objects.create(code="pl", name="Poland")
    data, _ = write()
    log = QuerySet(ChangeLog)
    log.update(payload=log.get().payload.replace(":", " :\n"))
    again, _ = write(since=0)
    assert records(again) == records(data)
