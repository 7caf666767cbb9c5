"""Reasons are kept in English, and told in the language of whoever reads them."""

import re

import pytest
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import translation
from django.utils.translation import gettext, ngettext

from synchro import reasons, values
from synchro.reasons import Reason
from synchro.values import Codec, UndecodableValueError
from tests.project.shop.models import Note

FORMS = {name: form for name, form in vars(reasons).items() if isinstance(form, Reason)}


def sample(form, number):
    found = {name: f"<{name}>" for name in re.findall(r"%\((\w+)\)s", form.one)}
    return {**found, "number": number} if form.many else found


@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_found_again(name, number):
    form = FORMS[name]
    given = sample(form, number)
    with translation.override("pl"):
        wanted = (ngettext(form.one, form.many, number) if form.many else gettext(form.one)) % given
        assert form(**given) == ((form.many if number != 1 else form.one) if form.many else form.one) % given
        assert reasons.told(form(**given)) == wanted
    with translation.override("en"):
        assert reasons.told(form(**given)) == form(**given)


@pytest.mark.parametrize("name", FORMS)
def test_forms_only_insert_texts(name):
    """A value that was found in a text is a text, so there is nothing else to insert it as."""
    form = FORMS[name]
    assert set(re.findall(r"%(?!\(\w+\)s)", form.one + form.many)) == set()
    assert not form.many or "number" in re.findall(r"%\((\w+)\)s", form.one)


def test_reasons_inside_reasons_are_told_too():
    with translation.override("de"):
        inner = gettext(reasons.TOO_MANY_BITS.one)
        assert inner != reasons.TOO_MANY_BITS.one
        text = reasons.CANNOT_HOLD(place="shop.item.price", value="12\n3", why=reasons.TOO_MANY_BITS())
        assert reasons.told(text).endswith(inner)
        assert "12\n3" in reasons.told(text)


def test_what_others_say_stays_as_it_is():
    with translation.override("de"):
        for text in ("", "IntegrityError: UNIQUE constraint failed: shop_car.plate", "%(model)s"):
            assert reasons.told(text) == text


def test_what_is_kept_does_not_depend_on_the_language(monkeypatch):
    """Neither a reason of ours nor what Django's own validation says inside one."""

    def invalid(value):
        raise ValidationError(models.Field.default_error_messages["blank"])

    day, char = Note._meta.get_field("day"), Note._meta.get_field("char")
    monkeypatch.setitem(values._codecs, id(char), (char, Codec(None, None, invalid)))
    said = set()
    for language in ("en", "de", "pl"):
        with translation.override(language):
            for field in (day, char):
                with pytest.raises(UndecodableValueError) as caught:
                    values.decode(field, "yesterday")
                said.add(str(caught.value))
    assert said == {
        "shop.note.day cannot hold 'yesterday': 'yesterday' is no date",
        "shop.note.char cannot hold 'yesterday': This field cannot be blank.",
    }
