"""Disk images that others made: what kind of file it is, and where its filesystems lie. All of it is hostile input."""
