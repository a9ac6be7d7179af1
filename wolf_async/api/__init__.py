"""What is sent and what comes back, without any I/O: request, response, repair and redaction."""
