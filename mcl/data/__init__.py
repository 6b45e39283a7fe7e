"""From a vendor, a generator or a file to `Bars`. The door is `mcl.data.loader.load`."""
