"""The jobs: the ledger that runs them, the areas they belong to, the commands that watch them."""
