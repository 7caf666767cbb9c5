"""Databases that are copied, as operators copy them: a file, a template, a dump. The copy goes on under its own id."""

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.db import connections

from tests.app.processes import Deployment

DATABASE = settings.DATABASES["default"]
VENDOR = DATABASE["ENGINE"].rpartition(".")[2]


def gone_on(office, copy, hq):
    """What must hold of *office*, which hq has everything of, and of its *copy*."""
    assert "office-" in office.manage("synchro_status")
    office.run("Tag.objects.create(name='office')")
    copy.run("Tag.objects.create(name='branch'); Tag.objects.filter(name='shared').update(name='unlogged')")
    copy.run("tag = Tag.objects.get(name='unlogged'); tag.name = 'renamed'; tag.save()")
    file = copy.export(to="hq")
    assert file.name.startswith("branch-")
    assert file.name.endswith("-000001-000002.jsonl.zst")
    hq.take(office.export(to="hq"))
    hq.take(file)
    assert hq.tags() == ["branch", "office", "renamed"]
    for each in (office, copy):
        each.take(hq.export(to="default" if each is copy else "office"))
        assert each.tags() == ["branch", "office", "renamed"]


def test_i3_a_copied_sqlite_file(tmp_path):
    office, hq = Deployment(tmp_path / "office", "office"), Deployment(tmp_path / "hq", "hq")
    office.run("Tag.objects.create(name='shared')")
    hq.take(office.export(to="hq"))
    gone_on(office, Deployment(tmp_path / "branch", "branch", copied=office.database), hq)


# --- servers ----------------------------------------------------------------------------------------------------------


def name_of(number):
    return f"{DATABASE['TEST']['NAME']}_copy_{number}"


@contextmanager
def databases(number):
    """Names of databases on the server that are dropped before and after."""
    names = [name_of(each) for each in range(number)]
    try:
        for name in names:
            execute(f"DROP DATABASE IF EXISTS {name}")
        yield names
    finally:
        for name in names:
            execute(f"DROP DATABASE IF EXISTS {name}")


def execute(sql):
    with connections["default"]._nodb_cursor() as cursor:
        cursor.execute(sql)


def ran(*command, text=None):
    """What a program of the database's own wrote."""
    password = {"PGPASSWORD": DATABASE.get("PASSWORD", ""), "MYSQL_PWD": DATABASE.get("PASSWORD", "")}
    done = subprocess.run(command, input=text, capture_output=True, check=False, env={**os.environ, **password})
    assert done.returncode == 0, done.stderr
    return done.stdout


def server(*options):
    return [f"--host={DATABASE['HOST']}", f"--port={DATABASE['PORT']}", *options]


def needs(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def original(tmp_path, name):
    execute(f"CREATE DATABASE {name}" + (" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if VENDOR == "mysql" else ""))
    office, hq = Deployment(tmp_path / "office", "office", server=name), Deployment(tmp_path / "hq", "hq")
    office.run("Tag.objects.create(name='shared')")
    hq.take(office.export(to="hq"))
    return office, hq


@pytest.mark.skipif(VENDOR != "postgresql", reason="PostgreSQL's own way to copy")
@pytest.mark.django_db
@pytest.mark.parametrize("way", ["template", "dump"])
def test_i3_a_copied_postgresql_database(way, tmp_path):
    with databases(2) as (first, second):
        office, hq = original(tmp_path, first)
        if way == "template":
            execute(f"CREATE DATABASE {second} TEMPLATE {first}")
        else:
            needs("pg_dump", "pg_restore")
            user = f"--username={DATABASE['USER']}"
            dump = ran("pg_dump", "--format=custom", *server(user, first))
            execute(f"CREATE DATABASE {second}")
            ran("pg_restore", *server(user, f"--dbname={second}"), text=dump)
        gone_on(office, Deployment(tmp_path / "branch", "branch", server=second, ready=True), hq)


@pytest.mark.skipif(VENDOR != "postgresql", reason="PostgreSQL's own way to restore")
@pytest.mark.django_db
def test_t12_a_restored_postgresql_dump(tmp_path):
    needs("pg_dump", "pg_restore")
    with databases(2) as (first, second):
        office, hq = original(tmp_path, first)
        user = f"--username={DATABASE['USER']}"
        dump = ran("pg_dump", "--format=custom", *server(user, first))
        office.run("Tag.objects.create(name='lost')")
        hq.take(office.export(to="hq"))
        execute(f"CREATE DATABASE {second}")
        ran("pg_restore", *server(user, f"--dbname={second}"), text=dump)
        restored = Deployment(tmp_path / "restored", "office", server=second, ready=True)
        restored.run("Tag.objects.create(name='after')")
        assert "restored from a backup" in restored.take(hq.export(to="office"))
        hq.take(restored.export(to="hq"))
        assert restored.tags() == hq.tags() == ["after", "lost", "shared"]


@pytest.mark.skipif(VENDOR != "mysql", reason="MariaDB's own way to copy")
@pytest.mark.django_db
def test_i3_a_copied_mariadb_database(tmp_path):
    needs("mysqldump", "mysql")
    with databases(2) as (first, second):
        office, hq = original(tmp_path, first)
        user = f"--user={DATABASE['USER']}"
        dump = ran("mysqldump", *server(user, first))
        execute(f"CREATE DATABASE {second} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        ran("mysql", *server(user, second), text=dump)
        gone_on(office, Deployment(tmp_path / "branch", "branch", server=second, ready=True), hq)
