"""The row about an export that was killed at nine tenths and goes on."""

from __future__ import annotations

from portunix_vdisk.tests.bench import figures
from portunix_vdisk.tests.bench.figures import Line, Samples
from portunix_vdisk.tests.bench.killing import Killed, export_and_kill
from portunix_vdisk.tests.bench.stage import DISK, Stage, say, warm

AT = 0.90
NEAR = (0.80, 0.97)
"""Part of the archive that may have been written when the kill came, for the round to count."""
TRIES = 5


def rows(stage: Stage) -> list[Line]:
    """Measure whole and resumed exports by turns. Raises ``RuntimeError`` if no kill came at the right moment."""
    whole, resumed = Samples(), Samples()
    output = stage.folder / "resumed.zip"
    for run in range(stage.runs):
        say(f"resume, round {run + 1} of {stage.runs}")
        warm(stage.image)
        stage.time(whole, stage.export(output), moves_data=True)
        size = output.stat().st_size
        for _ in range(TRIES):
            output.unlink(missing_ok=True)
            output.with_name(output.name + ".partial").unlink(missing_ok=True)
            killed = export_and_kill(stage.place, DISK, output, int(AT * size))
            if isinstance(killed, Killed) and NEAR[0] <= killed.partial / size <= NEAR[1]:
                break
        else:
            raise RuntimeError(f"no export could be killed at {AT:.0%} in {TRIES} tries")
        stage.place.plugin_pid()  # the plugin was killed too; starting it is no part of the resume
        warm(stage.image)
        stage.time(resumed, stage.export(output), moves_data=True)
        output.unlink()
    return [
        figures.time_share(f"export, resumed after a kill at {AT:.0%}", resumed, "a whole export", whole, under=0.15)
    ]
