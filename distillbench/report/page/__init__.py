"""What report.html shows beside its tables: plots, losses, samples side by side, provenance."""
