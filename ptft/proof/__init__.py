"""Evidence about weights that needs no run of its own, and the statistics of all evidence."""
