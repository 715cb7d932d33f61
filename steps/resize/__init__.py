"""Making a disk larger or smaller: its filesystem, its partition table, its image."""
