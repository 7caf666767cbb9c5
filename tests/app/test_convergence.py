"""Any number of deployments, in any topology, come to the same state, whatever happens to them and to the files.

Set SYNCHRO_SLOW=1 for many more schedules.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.simulation import (
    DISASTERS,
    FILES,
    FOLDS,
    FURTHER,
    NODES,
    TOPOLOGIES,
    can_have_more,
    more_deployments,
    simulate,
)
from tests.app.test_replay_property import SLOW

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])

PROFILES = {
    "objects": ("add_person", "add_device", "add_parcel", "change_person", "change_device", "change_parcel", "delete"),
    "keys": (
        "add_tag", "add_country", "rename_tag", "rename_country", "change_country", "delete", "recreate", "swap_tags",
    ),
    "parents": (
        "add_country", "add_city", "add_profile", "move_city", "add_place", "rename_city", "change_boss", "delete",
    ),
    "links": ("add_tag", "tag_person", "tag_person", "befriend", "change_person", "person_tag"),
    "links of the deleted": ("add_tag", "tag_person", "befriend", "rename_tag", "delete", "recreate", "change_person"),
    "members": (
        "add_person", "add_club", "join_club", "join_club", "add_membership", "change_membership", "delete",
    ),
    "tables": ("add_place", "add_restaurant", "add_restaurant_in_place", "change_place", "change_restaurant", "delete"),
}  # fmt: skip
PROFILES["all"] = tuple(dict.fromkeys(deed for deeds in PROFILES.values() for deed in deeds))
POLICIES = (None, "newest", "local", "incoming", "hold", "fail", "merge")
EXAMPLES = 1000 if SLOW else 40 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 12
numbers = st.integers(0, 59)


@st.composite
def worlds(draw):
    """What :func:`simulate` takes: deployments, their policies and clocks, and a schedule."""
    deeds = [*draw(st.sampled_from([PROFILES[name] for name in sorted(PROFILES)])) * 2, *FILES]
    if draw(st.booleans()):
        deeds += FOLDS
    if draw(st.booleans()):
        deeds += DISASTERS
    policies = draw(st.none() | st.tuples(*[st.sampled_from(POLICIES)] * len(NODES)))
    deeds += ["decide", "decide"] if policies else []
    topology = draw(st.sampled_from(TOPOLOGIES))
    return {
        "schedule": draw(st.lists(st.tuples(st.sampled_from(deeds), *[numbers] * 4), min_size=3, max_size=25)),
        "topology": topology,
        "policies": policies,
        "skews": draw(st.tuples(*[st.sampled_from([0, 0, -4, 4])] * len(NODES))),
        "size": draw(st.integers(3, 4 if topology == "mesh" else 5)) if can_have_more() else 3,
    }


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def whatever_happens(world):
    simulate(**world)


def test_all_come_to_the_same_state_and_nothing_is_lost():
    with more_deployments(*FURTHER if can_have_more() else ()):
        whatever_happens()


@pytest.mark.parametrize("topology", ["star", "mesh"])
@pytest.mark.parametrize(
    "schedule",
    [
        # A tag comes back by a later edit, where a link to it had arrived in the meantime.
        [
            ("recreate", 42, 43, 5, 45), ("add_tag", 28, 29, 55, 46), ("tag_person", 53, 39, 10, 43),
            ("rename_tag", 19, 4, 34, 41), ("late", 51, 9, 52, 54), ("export", 55, 18, 17, 35),
            ("tag_person", 59, 12, 5, 36),
        ],
        # A tag was deleted and made again at one place and renamed later at another: a merge with a tombstone.
        [("swap_tags", 1, 3, 56, 51), ("swap_tags", 59, 54, 13, 55), ("recreate", 53, 26, 31, 5)],
    ],
)  # fmt: skip
def test_schedules_that_went_wrong_once(schedule, topology):
    simulate(schedule, topology)


@pytest.mark.parametrize(
    "world",
    [
        {  # Two tags of other nodes that are one already become one with a third, of which nobody else hears.
            "schedule": [
                ("add_tag", 45, 23, 29, 30), ("swap_tags", 12, 57, 59, 35), ("rename_tag", 5, 3, 20, 53),
                ("recreate", 4, 6, 44, 40), ("recreate", 8, 7, 1, 39),
            ],
            "topology": "star",
        },
        {  # An edit loses everywhere but where the policy takes it, and points to what was deleted.
            "schedule": [("change_person", 39, 43, 46, 45), ("delete", 16, 3, 46, 33)],
            "topology": "pair",
            "policies": ("incoming", None),
        },
        {  # What a reset seals was made on what had left before.
            "schedule": [
                ("add_restaurant", 16, 32, 50, 13), ("snapshot", 40, 3, 58, 30), ("change_restaurant", 46, 19, 30, 53),
                ("change_place", 2, 32, 1, 0), ("reset", 18, 26, 13, 29),
            ],
            "topology": "pair",
        },
        {  # What a squash folds names an earlier base than the log that it is made of.
            "schedule": [("swap_tags", 27, 0, 35, 25), ("squash", 15, 42, 45, 39)],
            "topology": "star",
            "size": 3,
        },
    ],
)  # fmt: skip
def test_worlds_that_went_wrong_once(world):
    simulate(**world)
