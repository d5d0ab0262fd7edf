"""What the Tea Emporium's servers stand on. Nothing here starts by being imported."""
