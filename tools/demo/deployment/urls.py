"""URLs of the demo project: the admin, to look around in."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
