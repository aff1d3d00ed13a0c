"""What every room may use: errors, TOML, files, the version."""
