"""The two jobs, curate and tokenize; the only home of Apache Beam."""
