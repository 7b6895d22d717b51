"""The settings: environment, engine template, alert matchers, web configuration file."""
