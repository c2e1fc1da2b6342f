"""One module a finding: its protocol, from networks and images to tidy rows and pictures."""
