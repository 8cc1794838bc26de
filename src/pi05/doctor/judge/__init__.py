"""From facts to findings, by family. Pure: nothing is looked at here."""
