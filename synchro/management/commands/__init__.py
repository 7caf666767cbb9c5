"""The commands of ``manage.py``: they parse, call, and print."""
