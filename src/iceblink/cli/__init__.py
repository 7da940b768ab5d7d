"""The command line: parse, call a public word, print."""
