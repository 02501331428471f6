"""What stands behind the `loyalnest` command; each file a group of commands."""
