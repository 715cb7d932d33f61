"""Converting and cloning: another image with the same disk in it, and its place in the catalog."""
