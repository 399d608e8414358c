"""Read stored records as matrices, histories of changes and provenance."""
