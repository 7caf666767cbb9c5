"""The objects, the same in every run: a twentieth are authors, a hundredth tags, two fifths books, the rest reviews."""

import datetime as dt
import random
from decimal import Decimal

WORDS = (
    "river", "stone", "garden", "winter", "letter", "mirror", "harbour", "silence", "forest", "lantern", "island",
    "morning", "shadow", "empire", "orchard", "thunder", "marble", "station", "meadow", "crystal", "voyage",
)  # fmt: skip
START = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def title(rng, count):
    return " ".join(rng.choice(WORDS) for _ in range(count))


def objects(size, *, start=0):
    """Unsaved instances in an order in which they can be saved, and `(book, tags)` for the links."""
    from library.models import Author, Book, Review, Tag

    rng = random.Random(size + start)  # noqa: S311 - the same data in every run
    authors = [
        Author(name=f"{title(rng, 2)} {start + n}", born=dt.date(1900 + n % 100, 1 + n % 12, 1 + n % 28))
        for n in range(max(size // 20, 1))
    ]
    tags = [Tag(slug=f"{rng.choice(WORDS)}-{start + n}") for n in range(max(size // 100, 2))]
    books = [
        Book(
            isbn=f"{9780000000000 + start + n}",
            title=title(rng, 4),
            author=rng.choice(authors),
            price=Decimal(rng.randrange(100, 10000)) / 100,
            published=dt.date(1950 + n % 70, 1 + n % 12, 1 + n % 28),
            data={"pages": rng.randrange(50, 900), "languages": ["en", "pl"], "note": title(rng, 3)},
        )
        for n in range(size * 2 // 5)
    ]
    rest = max(size - len(authors) - len(tags) - len(books), 0)
    reviews = [
        Review(
            code=f"r{start + n}",
            book=rng.choice(books),
            stars=1 + n % 5,
            written=START + dt.timedelta(minutes=n),
            text=title(rng, 8),
        )
        for n in range(rest)
    ]
    links = [(book, rng.sample(tags, 2)) for book in books]
    return [*authors, *tags, *books, *reviews], links


def fill(size, using="default"):
    """Write the objects past every program that listens, in bulk."""
    from library.models import Author, Book, Review, Tag

    found, links = objects(size)
    for model in (Author, Tag, Book, Review):
        part = [each for each in found if type(each) is model]
        for each in part:  # the targets have their primary keys by now
            for field in model._meta.concrete_fields:
                if field.is_relation:
                    setattr(each, field.name, getattr(each, field.name))
        model._base_manager.using(using).bulk_create(part, batch_size=500)
    through = Book.tags.through
    through._base_manager.using(using).bulk_create(
        [through(book_id=book.pk, tag_id=tag.pk) for book, tags in links for tag in tags], batch_size=1000
    )
