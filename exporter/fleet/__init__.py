"""The containers as last read from Docker, and what is being done to them."""
