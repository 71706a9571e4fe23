"""The tables that `z3-target-bigquery` would create, printed as JSON: stream → column → type and mode.

Runs in the loader's environment: `python bigquery_tables.py < messages`.
"""

from __future__ import annotations

import json
import sys

from target_bigquery.core import SchemaTranslator

tables = {}
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "SCHEMA":
        fields = SchemaTranslator(message["schema"], {}).translated_schema
        tables[message["stream"]] = {field.name: [field.field_type.upper(), field.mode] for field in fields}
print(json.dumps(tables))
