"""Generates the protocol modules beside ``vdisk.proto``: ``python tests/plugin/generate.py``.

The modules are committed, so that installing needs no compiler; a test generates them anew and compares.
"""

from __future__ import annotations

import tempfile
from importlib import resources
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "plugin" / "rpc"
MODULES = ("vdisk_pb2.py", "vdisk_pb2.pyi", "vdisk_pb2_grpc.py")


def generate(target: Path) -> None:
    """Write the modules into the folder ``target``. Raises ``RuntimeError`` if the compiler refuses the protocol."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as scratch:
        # The compiler derives Python imports from folders: it has to see the package's name as a path.
        package = Path(scratch, "portunix_vdisk", "plugin", "rpc")
        package.mkdir(parents=True)
        (package / "vdisk.proto").symlink_to(FOLDER / "vdisk.proto")
        status = protoc.main(
            [
                "protoc",
                f"-Iportunix_vdisk/plugin/rpc={package}",
                f"-I{resources.files('grpc_tools') / '_proto'}",
                f"--python_out={scratch}",
                f"--pyi_out={scratch}",
                f"--grpc_python_out={scratch}",
                "portunix_vdisk/plugin/rpc/vdisk.proto",
            ]
        )
        if status != 0:
            raise RuntimeError(f"protoc failed with status {status}")
        for name in MODULES:
            (target / name).write_bytes((package / name).read_bytes())


if __name__ == "__main__":
    generate(FOLDER)
