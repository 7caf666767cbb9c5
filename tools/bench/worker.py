"""One process of the benchmark: makes a state of the database, or runs one contestant and prints what it measured."""

import argparse
import json
import os
import sys

import django


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["build", "run", "queries"])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--size", type=int, required=True)
    asked = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    django.setup()
    import states
    import works
    from django.db import connections
    from measure import counted, measured

    if asked.what == "build":
        states.build(asked.names[0], asked.size)
        return 0
    work = works.find(*asked.names).prepare(asked.size)
    if asked.what == "queries":
        with counted(list(connections)) as number:
            work()
        found = {"queries": number[0]}
    else:
        found = measured(work)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
