"""Everything that a person sets: environment, settings, engine template, web configuration."""
