"""What records say: scores, tables, pages and plots. Import the module that is wanted; each brings its own weight."""
