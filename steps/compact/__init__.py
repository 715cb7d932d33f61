"""Compacting: a new image of the same disk that holds only what is in use, and its swap with the old one."""
