"""The search (layer 4): spaces, recipes, samplers, the ledger, the head that decides and the executors that train."""
