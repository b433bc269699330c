"""The shared schema: engines, tables, statements, migrations. Knows no network and no job."""
