"""What a project pays that has a program installed and changes nothing that is tracked."""

import subprocess
import sys

from contestants import contestant, in_batches

STARTS = 5


def idle_works(name, listener, databases=("sqlite", "postgres", "mariadb")):
    @contestant(f"idle: {STARTS} starts of a process", name, listener=listener, databases=databases)
    def starts(size):
        command = [sys.executable, "-W", "ignore", "-c", "import django; django.setup()"]

        def run():
            for _ in range(STARTS):
                subprocess.run(command, check=True)

        return run

    @contestant("idle: saves of what is not tracked", name, listener=listener, databases=databases)
    def saves(size):
        from django.contrib.auth.models import Group

        groups = [Group(name=f"group {number}") for number in range(size // 4)]

        def run():
            in_batches(groups, lambda each: each.save())
            in_batches(groups, lambda each: each.save())

        return run

    @contestant("idle: links of what is not tracked", name, listener=listener, databases=databases)
    def links(size):
        from django.contrib.auth.models import Group, Permission
        from django.contrib.contenttypes.models import ContentType

        kind = ContentType.objects.get_for_model(Group)
        permission = Permission.objects.create(content_type=kind, codename="bench", name="bench")
        groups = Group.objects.bulk_create(Group(name=f"group {number}") for number in range(size // 4))
        return lambda: in_batches(groups, lambda each: each.permissions.add(permission))


idle_works("nothing installed", "none")
idle_works("synchro", "synchro")
idle_works("synchro, triggers too", "triggers")
idle_works("auditlog", "auditlog")
idle_works("simple-history", "simple_history")
idle_works("reversion", "reversion")
idle_works("pghistory", "pghistory", ("postgres",))
