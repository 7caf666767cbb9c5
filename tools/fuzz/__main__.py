#!/usr/bin/env python3
"""Fuzzing: feeds the reader and the importer with what no honest sender writes.

    python3 tools/fuzz reader --seconds 60        bytes and lines, guided by coverage (atheris, on Linux)
    python3 tools/fuzz importer --seconds 60      well-formed bundles that say strange things
    python3 tools/fuzz importer FILE …            those failures once more

Makes a virtualenv; needs Python 3.11 or newer and pip. What the reader's search found worth keeping is in corpus/ and
grows by `--keep`. A failure is written to fuzz-failures/ in the current folder. Exit status: 0 if there was none.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from environment import ROOT, EnvironmentFailedError, clean_environ, ensure  # noqa: E402

VECTORS = ROOT / "tests" / "vectors"
CORPUS = HERE / "corpus"
LONGEST = 8192
SEED_FILES = """
import sys
from pathlib import Path
from packing import unpacked
for path in sorted(Path(sys.argv[1]).glob("*/*.jsonl.zst")):
    data = path.read_bytes()
    target = Path(sys.argv[2])
    if len(data) < int(sys.argv[3]):
        (target / f"raw-{path.name}").write_bytes(b"\\0" + data)
    if path.parent.name == "good":
        lines = b"\\n".join(unpacked(data))
        if len(lines) < int(sys.argv[3]):
            (target / f"lines-{path.name}").write_bytes(b"\\1" + lines)
"""
WORDS = (
    "type", "header", "format", "synchro-changelog", "version", "bundle", "created", "node", "id", "name",
    "destination", "range", "from", "to", "seq", "date", "mode", "history", "squash", "snapshot", "only",
    "acks", "previous", "requires", "models", "key", "fields", "skipped", "relations", "links", "change",
    "object", "trailer", "action", "add", "delete", "link", "unlink", "same", "field", "target", "base",
    "base_node", "origin", "refs", "model", "resolution", "actor", "records", "sha256", "stored_sha256",
    "signature", "$int", "$float", "$bytes", "$duration", "$json", "$utf16", "$object", "$range", "lower",
    "upper", "bounds", "file", "files", "size", "at", "data", "versions",
    "redacted", "algorithm", "ed25519", "value", "NaN", "Infinity", "null", "true", "false",
)  # fmt: skip


def reader(python, seconds, *, keep):
    environ = clean_environ(PYTHONPATH=str(ROOT))
    with tempfile.TemporaryDirectory(prefix="synchro-fuzz-") as folder:
        found, seeds, words = Path(folder, "found"), Path(folder, "seeds"), Path(folder, "words")
        found.mkdir()
        seeds.mkdir()
        CORPUS.mkdir(exist_ok=True)
        failures = Path("fuzz-failures")
        failures.mkdir(exist_ok=True)
        words.write_text("".join(f'"\\"{word}\\""\n' for word in WORDS))
        making = [str(python), "-c", SEED_FILES, str(VECTORS), str(seeds), str(LONGEST)]
        subprocess.run(making, cwd=HERE, env=environ, check=True)
        command = [
            str(python), str(HERE / "reader.py"), f"-max_total_time={seconds:.0f}", f"-max_len={LONGEST}",
            f"-dict={words}", f"-artifact_prefix={failures}/", "-print_final_stats=1", "-timeout=20",
            "-rss_limit_mb=2048", str(CORPUS if keep else found), str(seeds), str(CORPUS),
        ]  # fmt: skip
        done = subprocess.run(command, env=environ, check=False)
        if not any(failures.iterdir()):
            failures.rmdir()
    return done.returncode


def importer(python, seconds, seed, files):
    command = [str(python), "-W", "ignore", str(HERE / "importer.py"), "--seconds", str(seconds), "--seed", str(seed)]
    return subprocess.run([*command, *files], env=clean_environ(), check=False).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["reader", "importer"])
    parser.add_argument("files", nargs="*", help="failures of the importer to try once more")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="add what the reader's search found to the corpus")
    asked = parser.parse_args()
    needed = {"reader": ["atheris>=3", f"{ROOT}[test]"], "importer": [f"{ROOT}[test]"]}[asked.what]
    try:
        python = ensure(ROOT / ".venv-test" / "fuzz", needed)
    except EnvironmentFailedError as error:
        print(f"tools/fuzz: {error}", file=sys.stderr)
        return 1
    if asked.what == "reader":
        return reader(python, asked.seconds, keep=asked.keep)
    return importer(python, asked.seconds, asked.seed, asked.files)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
