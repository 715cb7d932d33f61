from compacting import disk, original, originals

__all__ = ["disk", "original", "originals"]
