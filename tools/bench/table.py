"""The figures as tables."""

MIB = 1 << 20
HEAD = ("", "CPU s", "wall s", "CPU ratio", "wall ratio", "queries/object", "memory MiB", "bytes/object")
# Where more is better: the ratio says how much quicker than the first contestant.
QUICKER = ("export", "import", "verify", "synchronize", "scan")


def shown(kind, found, size):
    """A table for each work: times, ratios to the first contestant, and what else was measured."""
    text = [f"\n== {kind}, {size:,} objects =="]
    by_work = {}
    for (work, name), values in found.items():
        by_work.setdefault(work, {})[name] = values
    for work, of_work in by_work.items():
        base = next(iter(of_work.values()))
        quicker = work.startswith(QUICKER)
        text.append(f"\n{work} ({'times as quick as' if quicker else 'times the cost of'} the first)")
        rows = [HEAD]
        for name, values in of_work.items():
            rows.append(
                (
                    name,
                    f"{values['cpu']:.2f}",
                    f"{values['wall']:.2f}",
                    _ratio(base["cpu"], values["cpu"], quicker=quicker),
                    _ratio(base["wall"], values["wall"], quicker=quicker),
                    f"{values['queries'] / size:.4f}",
                    f"{values['memory'] / MIB:.1f}",
                    f"{values['bytes'] / size:.0f}" if "bytes" in values else "",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
        for row in rows:
            cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            text.append(f"  {row[0].ljust(widths[0])}  {'  '.join(cells)}")
    return "\n".join(text)


def _ratio(base, value, *, quicker):
    ratio = base / value if quicker else value / base
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"  # noqa: PLR2004 - two digits say enough
