"""django-import-export, as fast as its documentation makes it: bulk, natural keys as identities, cached targets."""

from import_export import fields, resources, widgets
from import_export.instance_loaders import CachedInstanceLoader
from library.models import Author, Book, Review, Tag


class CachedKey(widgets.ForeignKeyWidget):
    """Looks each target up once."""

    def __init__(self, model, field):
        super().__init__(model, field)
        self.found = {}

    def clean(self, value, row=None, **kwargs):
        if not self.found:
            self.found.update((getattr(each, self.field), each) for each in self.model._base_manager.all())
        return self.found[value]


class Tuned(resources.ModelResource):
    @classmethod
    def tuned(cls):
        return cls._meta.model._base_manager.all()


class Fast:
    use_bulk = True
    batch_size = 1000
    skip_diff = True
    report_skipped = False
    force_init_instance = False
    instance_loader_class = CachedInstanceLoader


class AuthorResource(Tuned):
    class Meta(Fast):
        model = Author
        import_id_fields = ("name",)
        fields = ("name", "born", "note")


class TagResource(Tuned):
    class Meta(Fast):
        model = Tag
        import_id_fields = ("slug",)
        fields = ("slug", "label")


class BookResource(Tuned):
    author = fields.Field(column_name="author", attribute="author", widget=CachedKey(Author, "name"))

    class Meta(Fast):
        model = Book
        import_id_fields = ("isbn",)
        fields = ("isbn", "title", "author", "price", "published", "data")

    @classmethod
    def tuned(cls):
        return Book._base_manager.select_related("author")


class ReviewResource(Tuned):
    book = fields.Field(column_name="book", attribute="book", widget=CachedKey(Book, "isbn"))

    class Meta(Fast):
        model = Review
        import_id_fields = ("code",)
        fields = ("code", "book", "stars", "written", "text")

    @classmethod
    def tuned(cls):
        return Review._base_manager.select_related("book")


ALL = (AuthorResource, TagResource, BookResource, ReviewResource)
