"""A catalog as others ask it: what the Iceberg REST specification says of requests and answers, without the HTTP."""
