"""Units that are seen again and again, some of them treated from some time on."""
