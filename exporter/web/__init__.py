"""The HTTP side; the only importer of aiohttp.web. It reads the controller's latest snapshot and asks for changes."""
