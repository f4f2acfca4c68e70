"""The commands, a module each; heavy things are imported inside, so that --help and list answer at once."""
