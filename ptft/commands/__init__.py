"""Commands beside training: what each of them does; `ptft.cli` says how it is called."""
