"""Did pretraining help? Random and given weights on equal terms, over several seeds, and a verdict."""
