"""Reading YAML configs strictly: what is wrong, where, and what to do. Knows nothing of torch."""
