"""What models and datasets may be loaded in and from, said once for the command line and for every loader."""

DTYPES = ("float32", "float16", "bfloat16", "float64")
"""The number formats that a model can be loaded and computed in."""

HUB_TIMEOUT_SECONDS = 10
"""How long a question to the model hub may take: without a network, the local cache is read after this."""

HUB_PREFIX = "hub:"
"""What names of datasets on the hub begin with: hub:OWNER/NAME."""
