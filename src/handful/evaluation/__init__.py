"""How good a fitted head is: accuracy with its interval, calibration, confusions, an honest
estimate from the support set alone."""
