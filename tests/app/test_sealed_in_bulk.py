"""Sealing by the chunk gives what numbering each change by itself would give."""

import os
from unittest import mock

import pytest
from django.db import transaction
from django.db.models import QuerySet
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from synchro import changelog, serialize
from synchro.models import Action, ChangeLog, Node, Version
from synchro.nodes import lock_own
from synchro.seal import seal_pending
from tests.app.deploy import rolled_back, take, write
from tests.app.logged import tracking
from tests.app.test_zoo_property import Zoo, before, steps

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])

EXAMPLES = 300 if os.environ.get("SYNCHRO_SLOW") else 12


def number(node, part, using):
    """The same, one change and one query at a time."""
    for each in part:
        node.seq += 1
        node.clock = max(each.captured, node.clock + 1)
        known = QuerySet(Version, using=using).filter(root=each.root, pk_text=each.pk_text, link=each.link).first()
        QuerySet(ChangeLog, using=using).filter(pk=each.id).update(
            log=node,
            seq=node.seq,
            date=node.clock,
            base=known and known.date,
            base_node=known and known.node_id,
            origin=node,
            origin_seq=node.seq,
        )
        QuerySet(Version, using=using).update_or_create(
            root=each.root,
            pk_text=each.pk_text,
            link=each.link,
            defaults={
                "date": node.clock,
                "node_id": node.pk,
                "deleted": each.action in (Action.DELETE, Action.UNLINK),
                "change_id": each.id,
            },
        )


def told(using):
    log = QuerySet(ChangeLog, using=using).order_by("seq").values_list()
    keys = "root", "pk_text", "link"
    versions = QuerySet(Version, using=using).order_by(*keys).values_list(*keys, "date", "node", "deleted", "change_id")
    node = QuerySet(Node, using=using).get(current=True)
    return sorted(log), list(versions), (node.seq, node.clock)


def without_numbers(told):
    """What rows are logged before others may take other numbers of the table."""
    log, versions, node = told
    places = {row[0]: row[10] for row in log}
    return [row[1:] for row in log], [(*row[:-1], places[row[-1]]) for row in versions if row[-1] in places], node


@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.lists(steps, min_size=5, max_size=25), min_size=1, max_size=3),
    st.lists(steps, max_size=15),
    st.lists(st.integers(-3, 3), min_size=1, max_size=5),
    st.sampled_from((1000, 7)),
)
def test_positions_dates_and_bases_are_those_of_one_by_one(scripts, elsewhere, ticks, chunk):
    clock = [changelog.now()]

    def now():
        clock.append(clock[-1] + ticks[len(clock) % len(ticks)])
        return clock[-1]

    with (
        tracking("zoo"),
        rolled_back(),
        mock.patch.object(serialize, "CHUNK", chunk),
        mock.patch.object(changelog, "now", now),
    ):
        for alias in ("default", "hq", "ship"):
            before(alias, 0)
        ship, office = Zoo("ship"), Zoo("default")
        lock_own("default")  # which is to have its number already when something is undone
        for name, *each in elsewhere:
            if name != "export":
                ship.do(name, *each)
        data, report = write("ship", since=0)
        for round_, script in enumerate(scripts):
            if round_ == 1 and report is not None:
                take(data, "default")
            for name, *each in script:
                if name != "export":
                    office.do(name, *each)
            captured = list(clock)
            with transaction.atomic():
                slowly = mock.patch("synchro.seal._number", number)
                with slowly:
                    seal_pending(lock_own("default"), "default")
                expected = without_numbers(told("default"))
                transaction.set_rollback(True)
            clock[:] = captured
            seal_pending(lock_own("default"), "default")
            assert without_numbers(told("default")) == expected
