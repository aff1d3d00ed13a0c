"""The shipped scenarios, one TOML file a phenomenon; installed as ``sgdsim.scenarios``."""
