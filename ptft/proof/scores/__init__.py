"""How well features that nobody has trained further serve a task: one file a score, features (N, D) and labels in."""
