"""What a drawn or edited picture earns, one reward a file, behind the protocol of `base`."""
