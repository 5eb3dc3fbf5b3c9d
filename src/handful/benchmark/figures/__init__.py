"""Results as figures for print."""
