"""The command line, as a program of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from changelog_format import NodeInfo
from changelog_format.__main__ import _parser, main
from tests.format.samples import ROOT, VECTORS, bundle, change, header

GOOD = str(VECTORS / "good" / "actions.jsonl.zst")
BAD = str(VECTORS / "bad" / "R58-sha256.jsonl.zst")


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "changelog_format", *arguments],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=60,
        **options,
    )


def test_info():
    done = run("info", GOOD)
    assert done.returncode == 0
    assert b"Office (office-7f3a9c21)" in done.stdout
    assert b"0 to 7 (2026-11-23T10:11:07.000123Z)" in done.stdout
    assert json.loads(run("info", "--json", GOOD).stdout)["destination"] == "default"


def test_verify():
    done = run("verify", GOOD)
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == 1
    assert b"8 records" in done.stdout
    assert b"geo.city 1 add, 2 change, 1 delete, 1 link, 1 same, 1 unlink" in done.stdout
    found = json.loads(run("verify", "--json", GOOD).stdout)
    assert found["counts"]["geo.country"] == {"object": 1}
    assert found["range"]["to"]["seq"] == 7


def test_standard_input_and_cat():
    lines = run("cat", "-", input=Path(GOOD).read_bytes()).stdout.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["header", "object", *["change"] * 7, "trailer"]
    done = run("verify", "-", input=b"nothing")
    assert (done.returncode, done.stderr) == (1, b"standard input: byte 0: not a zstd frame (SPEC R1)\n")


def test_refused_files_and_missing_ones():
    for command in ("verify", "cat"):
        done = run(command, BAD)
        assert done.returncode == 1
        assert done.stderr.startswith(BAD.encode() + b": line 3: sha256 is ")
        assert done.stderr.count(b"\n") == 1
    for command in ("info", "verify", "cat"):
        done = run(command, "/no/such/file")
        assert (done.returncode, done.stderr) == (3, b"/no/such/file: No such file or directory\n")


@pytest.mark.parametrize("arguments", [[], ["verify"], ["unknown", "x"], ["info", "--nothing", "x"]])
def test_wrong_usage(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert b"usage: " in done.stderr


def test_help():
    done = run("--help")
    assert done.returncode == 0
    for command in (b"info", b"verify", b"cat"):
        assert command in done.stdout
        text = run(command.decode(), "--help").stdout
        for words in (b"--max-line", b"--max-size", b"--max-records", b"--max-values", b"exit status: 0"):
            assert words in text


@pytest.mark.parametrize("command", ["info", "verify", "cat", "diff", "stats", "keygen", "sign"])
def test_help_has_an_example_that_is_understood(command):
    shown = run(command, "--help", env={**os.environ, "COLUMNS": "80"}).stdout.decode()
    (example,) = re.findall(r"^example: changelog-format (.*)$", shown, re.MULTILINE)
    assert example.split()[0] == command
    assert _parser().parse_args(example.split())


def test_a_broken_pipe_is_quiet(tmp_path):
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(bundle(header(20_000), (change(seq) for seq in range(1, 20_001))))
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "changelog_format", "cat", str(path)], cwd=ROOT, stdout=write, stderr=subprocess.PIPE
    ) as program:
        os.close(write)
        assert os.read(read, 10)
        os.close(read)
        assert program.stderr.read() == b""
        assert program.wait(60) == 3


def shell(redirection, *arguments):
    """Run it as a shell does that closes or redirects its streams."""
    command = f'"{sys.executable}" -m changelog_format "$@" {redirection}'
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # as most have it
    return subprocess.run(
        ["/bin/sh", "-c", command, "sh", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("command", ["info", "verify", "cat"])
def test_streams_that_are_closed_or_full_are_not_blamed_on_the_bundle(command):
    for redirection, arguments, message in (
        (">&-", [command, GOOD], b"output: is closed\n"),
        (">/dev/full", [command, GOOD], b"output: No space left on device\n"),
        ("<&-", [command, "-"], b"standard input: is closed\n"),
        ("2>&-", [command, "/no/such/file"], b""),
    ):
        done = shell(redirection, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"", message)
    for redirection in ("<&-", "2>&-"):
        assert shell(redirection, command, GOOD).returncode == 0


def test_a_refused_bundle_is_refused_whatever_becomes_of_the_output():
    for redirection in (">&-", ">/dev/full", "2>/dev/full"):
        assert shell(redirection, "verify", BAD).returncode == 1


@pytest.mark.parametrize(
    ("option", "rule"),
    [("--max-line=100", "R10"), ("--max-records=2", "R60"), ("--max-size=1K", "R60"), ("--max-values=3", "R64")],
)
def test_limits(option, rule, capfdbinary):
    for command in ("verify", "cat"):
        assert main([command, option, GOOD]) == 1
        assert capfdbinary.readouterr().err.endswith(f"(SPEC {rule})\n".encode())
    assert main(["verify", option.partition("=")[0], "9999", GOOD]) == 0


@pytest.mark.parametrize("size", ["-1", "x", "", "1T", "٣", "1.5M"])
def test_sizes_that_are_none(size):
    with pytest.raises(SystemExit) as caught:
        main(["verify", f"--max-size={size}", GOOD])
    assert caught.value.code == 2


def test_one_is_no_plural_and_info_verifies_nothing(tmp_path):
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(bundle(header(1), [change(1)]))
    assert b", 1 record in " in run("verify", str(path)).stdout
    assert run("info", str(path)).stdout.endswith(b"\nnot verified: only the header was read\n")


def test_names_from_a_file_cannot_steer_the_terminal(tmp_path):
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(bundle(header(0, node=NodeInfo(id="a-00000000", name="\x1b[31m\u202eł")), []))
    done = run("info", str(path), env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert b"\\x1b[31m\\u202e\\u0142" in done.stdout
