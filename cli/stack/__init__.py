"""`loyalnest up`: embedded servers, the processes, and who starts them again."""
