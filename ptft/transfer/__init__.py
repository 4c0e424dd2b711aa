"""From source weights to a target model: what a source is, what becomes of each tensor, how a target is trained."""
