"""What every HTML report is made of: charts, pictures, templates. Reads records and results as files."""
