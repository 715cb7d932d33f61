"""Setup scripts of a template: run once, in a sandbox, when everything else is installed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.errors import Failed, Missing, ToolFailed
from portunix_vdisk.steps.install.folders import refuse_links
from portunix_vdisk.steps.install.made_from import MadeFrom, read_made_from, write_made_from
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class RunScript:
    """Run one script with the disk as its working folder, and let the disk remember that.

    A script that was killed runs again from its beginning: it has to bear that.

    Args:
        root: where the disk is mounted.
        name: what the template calls it.
        text: commands of a shell; it ends at the first that fails.
        network: whether it may use the network.
        timeout: seconds that it may take.
        environment: what it finds in its environment.
        log: file to which its output is appended.
    """

    root: Path
    name: str
    text: str
    network: bool
    timeout: int
    environment: Mapping[str, str]
    log: Path

    def run(self, ctx: Context) -> Json:
        """Result: how long it took. Raises ``Failed``, ``Missing`` (no sandbox), ``Refused``."""
        command = ["/bin/sh", "-eu", "-c", self.text]
        words = ctx.platform.sandboxed(command, self.root, self.environment, network=self.network)
        if words is None:
            raise Missing(
                f"the script {self.name} was not run: there is no sandbox on this machine",
                state="everything before it is installed",
                hint="install bubblewrap (sudo apt-get install bubblewrap), then run the same command again",
            )
        began = time.monotonic()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"== {self.name}\n")
            try:
                ctx.platform.run_program(
                    Path(words[0]),
                    words[1:],
                    folder=self.root,
                    environment=self.environment,
                    told=self._hearing(log.write, began, ctx),
                )
            except ToolFailed as error:
                raise Failed(
                    f"the script {self.name} failed: {(error.output.splitlines() or ['it printed nothing'])[-1]}",
                    state="everything before it is installed",
                    hint=f"its output is in {self.log}; the same command runs it again",
                ) from error
        refuse_links(self.root)  # it may have been the script that put one there
        made = read_made_from(self.root) or MadeFrom("unknown")
        done = {**made.scripts, self.name: digest_of_script(self.text)}
        write_made_from(self.root, MadeFrom(made.template, made.configuration, done))
        return {"seconds": round(time.monotonic() - began, 1)}

    def _hearing(self, write: Callable[[str], object], began: float, ctx: Context) -> Callable[[str], None]:
        def told(line: str) -> None:
            ctx.safe_point()
            if line:
                write(line + "\n")
            if time.monotonic() - began > self.timeout:
                raise Failed(
                    f"the script {self.name} took longer than its {self.timeout} s",
                    state="it was ended; everything before it is installed",
                    hint=f"its output is in {self.log}; the template's timeout can be raised",
                )

        return told


def digest_of_script(text: str) -> str:
    """SHA-256 of a script, by which the disk knows that it ran."""
    return hashlib.sha256(text.encode()).hexdigest()
