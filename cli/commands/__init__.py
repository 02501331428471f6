"""The commands of `loyalnest`, a file for each family."""
