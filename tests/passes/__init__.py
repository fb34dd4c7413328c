"""The passes, each on its own and in a row: on small graphs written for them, and on random ones."""
