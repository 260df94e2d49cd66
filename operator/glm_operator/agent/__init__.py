"""The node agent: prepares the folders that keep weights, and removes what nobody needs."""
