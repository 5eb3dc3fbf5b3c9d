"""handful teaches a vision-language model new classes from a handful of labelled images."""
