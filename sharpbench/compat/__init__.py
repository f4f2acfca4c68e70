"""The calls of other libraries on this package's engine, for those who switch."""
