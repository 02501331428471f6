"""The dashboard: pages made on the server from the API's own answers, and small modules that keep them live."""
