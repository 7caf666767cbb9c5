"""The models in the admin, as plain as can be."""

from django.contrib import admin

from geo.models import City, Continent, Country, County, Language, State, Tag, Visit


class CityAdmin(admin.ModelAdmin):
    list_display = ("name", "country", "population")
    list_select_related = ("country",)
    search_fields = ("name",)


class VisitAdmin(admin.ModelAdmin):
    autocomplete_fields = ("city",)


admin.site.register(City, CityAdmin)
admin.site.register(Visit, VisitAdmin)
admin.site.register([Continent, Country, County, Language, State, Tag])
