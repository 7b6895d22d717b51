"""Where containers live: Docker, or a simulation of it."""
