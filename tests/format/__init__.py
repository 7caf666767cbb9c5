"""The file format. These tests need neither Django nor a database."""
