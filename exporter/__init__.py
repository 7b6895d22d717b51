"""Mayday: keeps engines behind redundant VPN containers available when a VPN fails."""

__version__ = "0.1.0"
