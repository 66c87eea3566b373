"""The report: result files of the bench as one page of figures."""
