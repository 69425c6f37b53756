"""`python -m arm` is `arm`."""

from arm.cli import main

main()
