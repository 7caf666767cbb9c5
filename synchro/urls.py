"""The page for operators: ``path("synchro/", include("synchro.urls", "synchro"))``, then ``synchro:synchro``."""

from __future__ import annotations

from django.urls import path

from synchro import views

app_name = "synchro"

urlpatterns = [path("", views.synchro, name="synchro")]
