"""Whatever happened to a model over several versions, a record of any of them arrives as what it means today."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synchro import registry, retry_held, upcaster, upcasting
from tests.app.deploy import at, brought, forged, records, rolled_back, take, write
from tests.project.shop.models import Note

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])

FINAL = {"char": "x", "integer": 7, "text": "long"}
DEFAULTS = {"char": "none", "integer": 1, "text": ""}
STEPS = st.lists(
    st.tuples(st.sampled_from(["rename", "drop", "add", "retype"]), st.sampled_from(sorted(FINAL))), max_size=5
)


class History:
    """What happened to the model, from its last version back: how a record looked in each, and what it means now."""

    def __init__(self, steps):
        self.last = len(steps) + 1
        self.looks = {self.last: {name: (name, str) for name in FINAL}}  # final name → name then, how it was written
        self.extra = {self.last: set()}
        self.steps = steps
        for version in range(self.last - 1, 0, -1):
            kind, name = steps[version - 1]
            looks, extra = dict(self.looks[version + 1]), set(self.extra[version + 1])
            if name in looks:
                called, _ = looks[name]
                if kind == "rename":
                    looks[name] = (f"{called}_{version}", looks[name][1])
                elif kind == "add":
                    del looks[name]
                elif kind == "retype" and looks[name][1] is str:
                    looks[name] = (called, list)
            if kind == "drop":
                extra.add(f"gone_{version}")
            self.looks[version], self.extra[version] = looks, extra

    def register(self):
        for version in range(1, self.last):
            before, after = self.looks[version], self.looks[version + 1]
            renamed = {before[n][0]: after[n][0] for n in before if before[n][0] != after[n][0]}
            step = upcaster(
                "shop.note",
                from_version=version,
                renamed=renamed,
                dropped=self.extra[version] - self.extra[version + 1],
                added={
                    after[n][0]: DEFAULTS[n] if after[n][1] is str else [DEFAULTS[n]] for n in set(after) - set(before)
                },
            )
            unpacked = [after[n][0] for n in before if before[n][1] is not after[n][1]]

            def retype(record, names=tuple(unpacked)):
                return record.having(**{name: record.value(name)[0] for name in names if name in record.fields})

            step(retype)

    def wire(self, version):
        fields = {called: FINAL[n] if how is str else [FINAL[n]] for n, (called, how) in self.looks[version].items()}
        return {**fields, **dict.fromkeys(self.extra[version], "old")}

    def means(self, version):
        return {name: FINAL[name] if name in self.looks[version] else DEFAULTS[name] for name in FINAL}


def of_version(version, history):
    def change(header, found):
        info = header["models"]["shop.note"]
        info["version"] = version
        found[0]["fields"] = history.wire(version)
        info["fields"] = dict.fromkeys(found[0]["fields"], "CharField")

    return change


def this_is(version):
    Note.SYNCHRO_VERSION = version
    registry.clear_caches()
    upcasting.clear_caches()


@settings(max_examples=25)
@given(steps=STEPS, data=st.data())
def test_a_record_of_any_version_means_the_same(steps, data):
    history = History(steps)
    version = data.draw(st.integers(1, history.last), label="the record's version")
    known = data.draw(st.integers(1, version), label="the version of the deployment that it reaches first")
    before = dict(upcasting._steps)
    try:
        with rolled_back():
            this_is(1)
            Note.objects.create()
            bundle = forged(write()[0], of_version(version, history))
            history.register()
            this_is(known)
            taken = brought(take(bundle))
            if known < version:
                assert taken == {"held": 1}
            relayed, _ = write("hq")
            assert records(relayed)[0]["fields"] == history.wire(version)
            this_is(history.last)
            if known < version or not taken.get("added"):
                assert brought(retry_held(using="hq")) == {"added": 1}
                assert {name: getattr(at(Note).get(), name) for name in FINAL} == history.means(version)
            assert brought(take(relayed, "ship")) == {"added": 1}
            assert {name: getattr(at(Note, "ship").get(), name) for name in FINAL} == history.means(version)
    finally:
        upcasting._steps.clear()
        upcasting._steps.update(before)
        del Note.SYNCHRO_VERSION
        registry.clear_caches()
        upcasting.clear_caches()
