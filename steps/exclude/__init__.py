"""Leaving out of an exported copy what can be made again, without touching the disk: deleted in an overlay."""
