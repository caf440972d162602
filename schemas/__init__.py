"""Every record that crosses a stage or touches a disk. Standard library, numpy and pyarrow only."""

SCHEMA_VERSION = 1
"""Written into every file; raised whenever a column, member or key changes its meaning."""
