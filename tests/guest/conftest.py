"""Guests want a machine that makes disks: the one of the system tests."""

from portunix_vdisk.tests.system.conftest import machine

__all__ = ["machine"]
