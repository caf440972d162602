"""The two jobs, curate and tokenize; the only home of Apache Beam."""

import logging

# Importing Beam without the extras of Google's cloud warns about BigQuery, which no job of ours uses.
logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
