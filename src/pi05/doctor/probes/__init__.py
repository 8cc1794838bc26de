"""What is measured, by family. Each probe takes the outside world as small functions, so that a test can stand in."""
