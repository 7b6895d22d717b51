"""The decisions of Mayday: pure functions over frozen values.

Nothing in this package does I/O, reads a clock, or knows of asyncio; time comes in as an argument.
"""
