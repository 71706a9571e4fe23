"""Prints what Dagster knows of its runs, the newest first. It runs in Dagster's own environment."""

from __future__ import annotations

import json

import dagster as dg

instance = dg.DagsterInstance.get()
report = []
for record in instance.get_run_records():
    run = record.dagster_run
    logged = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.is_dagster_event]
    failures = [event.step_failure_data for event in logged if event.is_step_failure]
    materializations = [event.materialization for event in logged if event.is_step_materialization]
    checks = [
        event.asset_check_evaluation_data for event in logged if event.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    report.append(
        {
            "job": run.job_name,
            "tenant": run.tags.get("dagster/partition"),
            "status": run.status.value,
            "asked": record.create_timestamp.timestamp(),
            "begin": record.start_time,
            "end": record.end_time,
            "retries": sum(event.is_step_up_for_retry for event in logged),
            "reason": failures[0].user_failure_data.description if failures else None,
            "metadata": {name: value.value for made in materializations for name, value in made.metadata.items()},
            "checks": {check.check_name: check.passed for check in checks},
        }
    )
print(json.dumps(report))
