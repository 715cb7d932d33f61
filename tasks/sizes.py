"""The one way in which sizes are shown, for the surfaces above."""

from portunix_vdisk.steps.sizes import show_rate, show_size

__all__ = ["show_rate", "show_size"]
