"""What Dagster knows: one asset with a partition for each tenant, its schedule, and a check for each tenant.

Dagster looks at the annotations when it loads this module, so that they must not be texts.
"""

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg

from many_tenants import meltano, tenants, turns
from many_tenants.database import Database
from many_tenants.log import Summary
from many_tenants.tenants import Tenant

TENANTS = tenants.configured()
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


class DatabaseResource(dg.ConfigurableResource):
    """Where all that lasts is. Its URL is only known to the process of a run."""

    url: str

    def open(self) -> Database:
        return Database(self.url)


@dg.asset(
    partitions_def=dg.StaticPartitionsDefinition([tenant.name for tenant in TENANTS]),
    retry_policy=dg.RetryPolicy(
        max_retries=TENANTS.retries,
        delay=TENANTS.first_wait_seconds,
        backoff=dg.Backoff.EXPONENTIAL,
        jitter=dg.Jitter.PLUS_MINUS,
    ),
    kinds={"meltano", "postgres"},
)
def live_response_results(context: dg.AssetExecutionContext, database: DatabaseResource) -> dg.MaterializeResult[Any]:
    """Results of Live Response commands of a tenant, brought into its schema of the warehouse."""
    tenant, store, started = TENANTS[context.partition_key], database.open(), datetime.now(timezone.utc)
    try:
        own = tenant.environment(lambda name: dg.EnvVar(name).get_value())
    except tenants.TenantsError as error:
        summary = Summary()
        summary.fail(str(error))
        store.record(tenant, started, 1, summary)
        raise dg.Failure(str(error), allow_retries=False) from None
    ended = meltano.run(
        tenant.name,
        {**meltano.inherited(TENANTS.secret_variables()), **store.environment(tenant.schema), **own},
        project=Path.cwd(),
        secrets=store.secrets() | secrets_of(tenant, own),
        write=sys.stderr.write,
        tell=context.log.info,
    )
    store.record(tenant, started, ended.code, ended.summary)
    metadata = described(ended.summary, ended.seconds)
    if ended.code:
        raise dg.Failure(ended.summary.reason, metadata=metadata, allow_retries=not ended.summary.needs_a_person)
    return dg.MaterializeResult(metadata=metadata)


def secrets_of(tenant: Tenant, environment: dict[str, str]) -> set[str]:
    return {environment[f"TAP_DEFENDER_LR_{name.upper()}"] for name in tenant.references}


def described(summary: Summary, seconds: float) -> dict[str, Any]:
    """What is shown beside a run."""
    numbers = {
        **{f"records/{stream}": count for stream, count in summary.records.items()},
        "results left": summary.results_left,
        "calls": summary.calls,
        "calls left this minute": summary.left_this_minute,
        "calls left this hour": summary.left_this_hour,
        "seconds": round(seconds, 1),
    }
    return {name: value for name, value in numbers.items() if value is not None}


read_tenant = dg.define_asset_job(
    "read_tenant", selection=dg.AssetSelection.assets(live_response_results).without_checks()
)


@dg.schedule(job=read_tenant, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def tenants_in_turn(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Reads the tenants that had no run since their newest turn. One whose last run is not over yet has to wait."""
    minute = context.scheduled_execution_time.astimezone(timezone.utc)
    since = minute - timedelta(minutes=TENANTS.every_minutes)
    known = context.instance.get_run_partition_data
    busy = {run.partition for run in known(dg.RunsFilter(statuses=IN_PROGRESS))}
    ended = known(dg.RunsFilter(statuses=ENDED, updated_after=since))
    # One that was cancelled in the queue never started.
    started = {run.partition: run.start_time or run.end_time or 0 for run in ended}
    free = [tenant.name for tenant in turns.due(TENANTS, minute, started) if tenant.name not in busy]
    requests = [dg.RunRequest(run_key=f"{name} {minute:%Y-%m-%d %H:%M}", partition_key=name) for name in free]
    yield from requests or [dg.SkipReason("It is no tenant's turn.")]


CHECKS = {tenant.name: dg.AssetCheckSpec(f"{tenant.name}_is_fresh", asset=live_response_results) for tenant in TENANTS}


@dg.multi_asset_check(specs=list(CHECKS.values()), name="tenants_are_fresh")
def tenants_are_fresh(database: DatabaseResource) -> Iterator[dg.AssetCheckResult]:
    """Fails for each tenant that was not read for too long; tells quota and coverage of all."""
    for row in database.open().overview(TENANTS):
        yield dg.AssetCheckResult(
            asset_key=live_response_results.key,
            check_name=CHECKS[row["tenant"]].name,
            passed=not row["stale"],
            description=row["last_failure"],
            metadata={name: str(value) for name, value in row.items() if value is not None},
        )


check_tenants = dg.define_asset_job(
    "check_tenants",
    selection=dg.AssetSelection.checks(*(spec.key for spec in CHECKS.values())),
    # It does not wait behind the tenants that are to be read.
    tags={"dagster/priority": "1"},
)
check_schedule = dg.ScheduleDefinition(
    job=check_tenants, cron_schedule="*/15 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING
)

defs = dg.Definitions(
    assets=[live_response_results],
    asset_checks=[tenants_are_fresh],
    jobs=[read_tenant, check_tenants],
    schedules=[tenants_in_turn, check_schedule],
    resources={"database": DatabaseResource(url=dg.EnvVar("DATABASE_URL"))},
    # A run has one step, which needs no process beside that of the run.
    executor=dg.in_process_executor,
)
