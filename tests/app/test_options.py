"""What django-dbsettings keeps for operators, and where its own values would go wrong."""

import datetime as dt
import io

import pytest
from dbsettings.forms import customized_editor
from dbsettings.loading import _get_cache_key, get_setting, get_setting_storage
from dbsettings.models import Setting
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings
from django.utils import timezone, translation

from synchro import export_bundle
from synchro.errors import ExportError
from synchro.models import options
from synchro.options import SynchroSettings
from synchro.seal import tolerance
from tests.app.logged import ALIASES
from tests.project.shop.models import Tag

pytestmark = pytest.mark.django_db(databases=ALIASES)
MOMENT = dt.datetime(2024, 3, 2, 23, 59, 58, 123456, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def no_cache():
    cache.clear()
    yield
    cache.clear()


def stored(name):
    return Setting.objects.get(module_name="synchro.options", attribute_name=name).value


def test_the_defaults():
    assert options.last_check is None
    assert options.conflict_policy == "newest"
    assert options.clock_tolerance == 300
    assert options.compression_level == 3


def test_options_are_read_and_written():
    options.conflict_policy = "local"
    options.clock_tolerance = 60
    assert (options.conflict_policy, options.clock_tolerance) == ("local", 60)
    assert tolerance() == 60_000_000
    assert (stored("conflict_policy"), stored("clock_tolerance")) == ("local", "60")


@pytest.mark.parametrize("written", ["es", "pl", "de", "fr", "en"])
@pytest.mark.parametrize("read", ["en", "es"])
def test_a_date_written_under_one_language_is_the_same_under_another(written, read):
    with translation.override(written):
        options.last_check = MOMENT
    cache.clear()
    with translation.override(read):
        assert options.last_check == MOMENT
    assert stored("last_check") == "2024-03-02T23:59:58.123456+00:00"


def test_microseconds_and_time_zones_are_kept():
    moment = MOMENT.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=45)))
    options.last_check = moment
    cache.clear()
    assert options.last_check == moment
    assert options.last_check.utcoffset() == dt.timedelta(0)


@override_settings(TIME_ZONE="Europe/Warsaw")
def test_a_date_without_a_zone_is_local_time():
    options.last_check = dt.datetime(2024, 7, 1, 12)  # noqa: DTZ001  the point
    assert options.last_check == dt.datetime(2024, 7, 1, 10, tzinfo=dt.UTC)
    assert stored("last_check") == "2024-07-01T10:00:00+00:00"


def test_a_date_may_be_taken_away():
    options.last_check = MOMENT
    options.last_check = None
    cache.clear()
    assert options.last_check is None


@pytest.mark.parametrize("name", ["last_check", "clock_tolerance"])
def test_a_value_that_equals_a_stale_one_is_written(name):
    """Another process has written something else since this one looked."""
    mine, theirs = {
        "last_check": (MOMENT, "2000-01-01T00:00:00+00:00"),
        "clock_tolerance": (60, "900"),
    }[name]
    setattr(options, name, mine)
    assert getattr(options, name) == mine
    Setting.objects.filter(attribute_name=name).update(value=theirs)
    setattr(options, name, mine)
    cache.clear()
    assert getattr(options, name) == mine


def test_an_option_that_another_process_made_is_not_made_twice():
    assert options.clock_tolerance == 300  # cached: there is no row
    storage = get_setting_storage("synchro.options", "", "clock_tolerance")
    assert storage.pk is None
    Setting.objects.create(module_name="synchro.options", class_name="", attribute_name="clock_tolerance", value="5")
    options.clock_tolerance = 60
    cache.clear()
    assert Setting.objects.filter(attribute_name="clock_tolerance").count() == 1
    assert options.clock_tolerance == 60


def test_a_value_that_was_rolled_back_can_be_set_again():
    options.clock_tolerance = 60
    with transaction.atomic():
        options.clock_tolerance = 900
        assert options.clock_tolerance == 900
        transaction.set_rollback(True)
    options.clock_tolerance = 900
    cache.clear()
    assert options.clock_tolerance == 900


def test_what_an_editor_shows_is_what_it_takes():
    value = SynchroSettings.__dict__["last_check"]
    assert value.to_editor(None) == ""
    options.last_check = MOMENT
    shown = value.to_editor("")
    assert value.to_python(shown) == MOMENT
    form = value.field(required=False)
    assert timezone.is_aware(form.clean(shown))
    assert form.clean(shown) == MOMENT


def test_the_compression_level_is_bounded(tmp_path):
    Tag.objects.create(name="t")
    options.compression_level = 99
    with pytest.raises(ExportError, match="compression level is 99"):
        export_bundle(tmp_path)
    options.compression_level = 19
    assert export_bundle(tmp_path).records == 1


@pytest.mark.parametrize("app", ["synchro", "odd", "shop"])
def test_the_migrations_are_complete(app):
    out = io.StringIO()
    call_command("makemigrations", app, check=True, dry_run=True, stdout=out)
    assert "No changes" in out.getvalue()


@pytest.mark.parametrize(("level", "fits"), [("0", False), ("1", True), ("19", True), ("20", False), ("", False)])
def test_the_editor_takes_only_levels_that_there_are(level, fits):
    page = customized_editor(User(is_superuser=True), [get_setting("synchro.options", "", "compression_level")])
    form = page({"synchro.options____compression_level": level})
    assert form.is_valid() is fits


@pytest.mark.parametrize(
    ("name", "mine", "theirs"),
    [
        ("last_check", MOMENT, "2000-01-01T00:00:00+00:00"),
        ("clock_tolerance", 60, "900"),
        ("conflict_policy", "local", "hold"),
    ],
)
def test_what_another_process_wrote_is_read_at_once(name, mine, theirs):
    """As the page in the admin does while a job synchronizes."""
    setattr(options, name, mine)
    assert getattr(options, name) == mine
    Setting.objects.filter(attribute_name=name).update(value=theirs)
    page = customized_editor(User(is_superuser=True), [get_setting("synchro.options", "", name)])
    assert theirs[:10] in page()[f"synchro.options____{name}"].initial
    cache.set(_get_cache_key("synchro.options", "", name), Setting(value=mine))
    assert str(getattr(options, name)) == theirs.replace("T", " ")
