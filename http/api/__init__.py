"""The HTTP API: thin handlers on aiohttp, one module per resource; `server` ties them together."""
