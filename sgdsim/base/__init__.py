"""Tools that every package may use: errors, TOML, files, the version."""
