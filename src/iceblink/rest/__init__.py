"""An Iceberg REST catalog over any catalog of ours, so that other engines share an embedded lake."""
