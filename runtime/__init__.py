"""Settings, connections, embedded servers, metrics and the `loyalnest` command."""
