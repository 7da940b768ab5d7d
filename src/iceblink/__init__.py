"""One typed, lazy dataset over an Iceberg lakehouse."""
