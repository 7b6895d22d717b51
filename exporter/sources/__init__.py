"""Where signals come from: one file for each source, behind the protocol in `base`."""
