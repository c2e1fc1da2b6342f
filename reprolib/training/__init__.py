"""What a network is trained on (`recipes`), how (`loop`), and where it is kept (`zoo`)."""
