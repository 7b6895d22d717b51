"""What changes containers: every call goes through the gate in `calls`."""
