"""The command line, plugin and worker with the real engine, but an ``import`` that only asks for passwords.

What it does is the text of its archive: ``ask``, ``new``, ``twice``, ``both``, ``unused``, ``crash``, ``wrong``. It
writes what it got as a digest into the folder it was called in, and waits there until a file ``go`` appears.
Run as ``locked.py worker|server|portunix|doit ARGUMENTS``.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from portunix_vdisk.plugin import core, version

ME = str(Path(__file__).resolve())
SUBJECT = "the archive client.zip"


def engine() -> ModuleType:
    from portunix_vdisk.tasks import engine

    engine.GRAPHS["import"] = locked_graph
    return engine


def locked_graph(session, options: Mapping[str, str]):  # type: ignore[no-untyped-def]
    from portunix_vdisk.platform.errors import Corrupt
    from portunix_vdisk.tasks.graph import Graph, Member

    word = options["archive"]

    def run(ctx):  # type: ignore[no-untyped-def]
        passwords = []
        if word != "unused":
            passwords.append(session.password(SUBJECT, new=word == "new"))
        if word == "twice":
            passwords.append(session.password(SUBJECT))
        if word == "both":
            passwords.append(session.password("the disk my-dev"))
        dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
        ctx.info("opening the archive")
        ctx.update(1, 2)
        facts = {
            "digests": [hashlib.sha256(one).hexdigest() for one in passwords],
            "dumpable": dumpable,
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "pid": os.getpid(),
        }
        target = session.folder / "held"
        target.with_suffix(".tmp").write_text(json.dumps(facts))
        target.with_suffix(".tmp").rename(target)
        deadline = time.monotonic() + 30
        while not (session.folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if word == "crash":
            raise ValueError(f"boom in {session}")
        if word == "wrong":
            raise Corrupt(f"wrong password for {SUBJECT}")
        return {"held": len(passwords)}

    member = Member("open", "open the archive", run, lambda values: False)
    return Graph("import", options.get("name", "x"), "open an archive", (), (member,), lambda values: RESULT)


RESULT = {"disk": None, "changed": True}


def main() -> int:
    role, *arguments = sys.argv[1:]
    version.build = lambda: "locked"
    core._DEADLINE = 30.0
    if role == "worker":
        from portunix_vdisk.plugin import worker

        return worker.main(engine)  # type: ignore[arg-type]
    if role == "server":
        from portunix_vdisk.plugin import server

        return server.main(arguments, worker=(sys.executable, ME, "worker"))
    del sys.argv[1]
    if role == "doit":
        engine()
        from portunix_vdisk.tasks.declared import doit

        return doit(arguments, Path.cwd())
    from portunix_vdisk.plugin import cli

    return cli.program((sys.executable, ME, "server", "--idle-seconds", "60"))


if __name__ == "__main__":
    sys.exit(main())
