"""Archives: a disk in one ZIP file of compressed, checksummed chunks. ``FORMAT.md`` describes the format."""
