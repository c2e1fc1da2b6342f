"""What was found, as pages to read: a gallery that opens without a network, a page for the web, and the generated parts of README."""
