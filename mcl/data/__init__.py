"""From a vendor, a generator or a file to `Bars`."""
