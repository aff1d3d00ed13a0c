"""From a file, options or a call to checked runs."""
