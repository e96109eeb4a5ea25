"""What a study found (layer 5; pandas and up): tables, statistics, the report, exported cells."""
