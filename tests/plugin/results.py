"""A result of each operation, as its schema wants it."""

from __future__ import annotations

from typing import Any

from portunix_vdisk.tests.plugin.stand_in import DISK, sync_result

UUID = "12345678-1234-1234-1234-123456789abc"
EXPORT = {"output": "/x.zip", "finished_at": "2025-01-01T00:00:00+00:00", "root": "ab" * 32}
TEMPLATE = {
    "key": "mine",
    "name": "Mine",
    "description": "",
    "size": "20GB",
    "size_bytes": 20_000_000_000,
    "origin": "built-in",
    "tools": [{"name": "nodejs", "version": "18", "source": ""}],
    "packages": [{"name": "react", "version": "", "language": "npm"}],
    "scripts": [{"name": "s", "run": "true", "network": False, "timeout": 600}],
    "configuration": {"NODE_ENV": "development"},
}
ENVIRONMENT = {
    "root": "/mnt/dev",
    "in_front": {"PATH": ["/mnt/dev/bin"]},
    "variables": {"PORTUNIX_VDISK": "/mnt/dev"},
    "warnings": ["w"],
}
INSTALLED = {
    "disk": "my-dev",
    "mount_point": "/mnt/dev",
    "tools": [
        {
            "name": "nodejs",
            "version": "20.20.2",
            "source": "pypi",
            "folder": "tools/nodejs/20.20.2",
            "active": True,
            "commands": ["node", "npx"],
        }
    ],
    "packages": [{"language": "npm", "name": "react", "version": "18.3.1"}],
}
_NO = ("compression", "encryption", "fixed", "trim", "snapshots", "links", "modes", "rootless")
RESULTS: dict[str, Any] = {
    "template list": {"templates": [TEMPLATE]},
    "template show": {"template": TEMPLATE},
    "template validate": {"file": "/t.yaml", "templates": [TEMPLATE]},
    "outdated": {
        "disk": "my-dev",
        "outdated": [{"language": "npm", "name": "react", "version": "18.2.0", "newest": "18.3.1"}],
        "unknown": ["git cannot be had: debian: deb.debian.org cannot be reached"],
    },
    "upgrade": {
        "disk": "my-dev",
        "upgraded": [{"language": "", "name": "nodejs", "from": "20.1.0", "to": "20.2.0"}],
        "missing": [{"name": "git", "why": "deb.debian.org cannot be reached"}],
    },
    "template lock": {
        "template": "web",
        "lock": "/home/ada/.portunix/web.vdisk.lock",
        "tools": [{"name": "nodejs", "version": "20.2.0"}],
        "packages": [{"language": "npm", "name": "react", "version": "18.3.1"}],
        "missing": ["vscode"],
    },
    "template from-disk": {
        "disk": "my-dev",
        "template": "my-dev",
        "file": "/home/ada/my-dev.yaml",
        "lock": "/home/ada/my-dev.vdisk.lock",
        "lost": ["greet"],
    },
    "uninstall": {
        "disk": "my-dev",
        "tools": [{"name": "nodejs", "version": "20.18.0"}],
        "packages": [{"language": "npm", "name": "react", "version": "18.3.1"}],
    },
    "use": {"disk": "my-dev", "name": "nodejs", "version": "20.18.0", "changed": True},
    "install": {
        "disk": "my-dev",
        "mount_point": "/mnt/dev",
        "tools": [{"name": "nodejs", "version": "20.18.0", "source": "pypi"}],
        "packages": [{"language": "npm", "name": "react", "version": "18.3.1"}],
        "missing": [{"name": "chrome", "why": "w"}],
        "changed": True,
    },
    "list": {"disks": [DISK]},
    "env": {"disk": "my-dev", **ENVIRONMENT, "shell": "sh"},
    "exec": {"disk": DISK, "mounted": True, "environment": ENVIRONMENT},
    "shell": {"disk": DISK, "mounted": False, "environment": ENVIRONMENT},
    "info": {
        "disk": DISK | {"encrypted": True},
        "encryption": {
            "format": "LUKS1",
            "cipher": "aes-xts-plain64",
            "key_bits": 512,
            "hash": "sha256",
            "uuid": UUID,
            "slots": [0, 2],
        },
        "exports": [EXPORT],
    },
    "formats": {
        "formats": [
            {
                "type": "vhd",
                "max_size": "2.2 TB",
                "compatible": ["linux", "wsl2"],
                "file_system": "ext4",
                **dict.fromkeys(_NO, False),
                **dict.fromkeys(("max_size_bytes", "min_size_bytes"), 7),
                **dict.fromkeys(("max_file_bytes", "not_encrypted_because", "not_rootless_because", "refused")),
            }
        ]
    },
    "create": {
        "disk": DISK,
        "changed": True,
        "template": {"key": "mine", "installed": ["nodejs"], "missing": [{"name": "chrome", "why": "w"}]},
    },
    "repair": {"disk": DISK, "changed": True},
    "mount": {"disk": DISK | {"mount_point": "/mnt/dev", "device": "/dev/loop0"}, "changed": True},
    "unmount": {"disk": DISK, "changed": False},
    "sync": sync_result(),
    "compact": {
        "disk": DISK,
        "skipped": None,
        "changed": True,
        **dict.fromkeys(("before_bytes", "after_bytes", "saved_bytes", "trimmed_bytes"), 7),
    },
    "clone": {"disk": DISK, "source": "my-dev", "shared": False, "changed": True},
    "check": {"disk": DISK, "problems": [{"part": "image", "what": "w"}], "repaired": ["r"]},
    "convert": {
        "disk": DISK,
        "former_path": "/d/my-dev.img",
        "copy": {"path": "/d/my-dev.dmg", "bytes": 7000},
        "changed": True,
    },
    "resize": {"disk": DISK, "former_size_bytes": 1 << 30, "changed": True},
    "export": {
        "disk": "my-dev",
        "output": "/x.zip",
        "archive_uuid": UUID,
        "root": "ab" * 32,
        "changed": True,
        "generation": 3,
        "generations": [2, 3],
        "encrypted": True,
        "base": "monday.zip",
        **dict.fromkeys(("archive_bytes", "disk_bytes", "data_bytes", "written_bytes", "reused_bytes"), 7),
        **dict.fromkeys(("added_bytes", "saved_bytes"), 7),
        "waited_seconds": 0.05,
        "excluded": {"files": 3, "bytes": 7, "stayed": 0, "rules": [{"rule": "cargo", "files": 3, "bytes": 7}]},
    },
    "verify": {
        "archive": "/x.zip",
        "archive_uuid": UUID,
        "disk": "my-dev",
        "generations": [2, 3],
        "root": "ab" * 32,
        "archive_bytes": 7,
        "checked_bytes": 7,
        "quick": False,
        "cut_off_bytes": 7,
    },
    "archive list": {
        "archive": "/x.zip",
        "archive_uuid": UUID,
        "disk": "my-dev",
        "disk_uuid": UUID,
        "type": "vhd",
        "encrypted": True,
        "base": "monday.zip",
        "volumes": 3,
        **dict.fromkeys(("size_bytes", "archive_bytes", "dead_bytes", "cut_off_bytes"), 7),
        "generations": [
            {
                "generation": 3,
                "finished_at": "2025-01-02T03:04:05+00:00",
                "root": "ab" * 32,
                "data_bytes": 7,
                "added_bytes": 7,
                "without_caches": True,
            }
        ],
    },
    "archive prune": {
        "archive": "/x.zip",
        "archive_bytes": 7,
        "saved_bytes": 7,
        "generations": [3],
        "dropped": [1, 2],
    },
    "archive merge": {
        "archive": "/d.zip",
        "output": "/x.zip",
        "merged": ["/d.zip", "/b.zip"],
        "archive_uuid": UUID,
        "disk": "my-dev",
        "root": "ab" * 32,
        "encrypted": False,
        "changed": True,
        **dict.fromkeys(("archive_bytes", "data_bytes", "written_bytes", "reused_bytes"), 7),
    },
    "archive repair": {
        "archive": "/x.zip",
        "archive_uuid": UUID,
        "lost": [{"member": "chunks/1-000000000000.zst", "offset": 0, "length": 7, "generations": [1], "problem": "p"}],
        "whole_generations": [2],
        "damaged_generations": [1],
        "mended_documents": ["directory"],
        "damaged_documents": ["session-1.json"],
        **dict.fromkeys(("checked_bytes", "damaged_chunks", "mended_in_place", "appended_chunks"), 7),
        **dict.fromkeys(("lost_chunks", "written_bytes"), 7),
    },
    "passwd": {"disk": "my-dev", "change": "add", "slots": [0, 1]},
    "luks-backup": {"disk": "my-dev", "output": "/h.luks", "bytes": 2 << 20},
    "archive rekey": {"archive": "/x.zip", "archive_uuid": UUID},
    "import": {
        "disk": DISK,
        "archive": "/x.zip",
        "root": "ab" * 32,
        "changed": True,
        "written_bytes": 1,
        "reused_bytes": 0,
        "damage": {
            "damaged_bytes": 7,
            "files": ["/a"],
            "file_count": 1,
            "structures": ["journal"],
            "unknown": None,
        },
    },
    "archive mount": {
        "archive": "/x.zip",
        "generation": 2,
        "disk": "my-dev",
        "uuid": UUID,
        "size": "20.0 GB",
        "size_bytes": 20_000_000_000,
        "file_system": "ext4",
        "mount_point": "/mnt/look",
        "device": "/dev/loop0",
        "server_pid": 12,
        "changed": True,
    },
    "archive unmount": {"archive": "/x.zip", "mount_point": "/mnt/look", "changed": True},
    "delete": {"name": "my-dev", "path": "/d/my-dev.vhd", "deleted": True},
    "doctor": {
        "tools": [{"name": "qemu-img", "purpose": "p", "without": "w", "found": None, "install": "apt-get install"}],
        "ok": False,
        "fixed": [],
    },
}
