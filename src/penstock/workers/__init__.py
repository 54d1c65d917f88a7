"""The processes of one gateway: how they reach each other. `penstock.server.supervisor` starts them."""
