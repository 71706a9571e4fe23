-- What stands how with each tenant: the view operations.overview, and what it reads.
--
-- `python -m many_tenants prepare` runs this; it can be run again at any time. Tables of tap, loader and ledger are
-- looked for when the view is read, since they come with the first runs.

create schema if not exists meltano;
create schema if not exists quota;
create schema if not exists operations;

create table if not exists operations.tenants (
  name text primary key,
  account text not null,
  warehouse_schema text not null,
  calls_per_minute integer not null,
  calls_per_hour integer not null,
  stale_after interval not null
);

-- One row for each time that Meltano ran.
create table if not exists operations.runs (
  tenant text not null,
  started_at timestamptz not null,
  ended_at timestamptz not null,
  succeeded boolean not null,
  records jsonb not null,
  results_left integer not null,
  says text,
  primary key (tenant, ended_at)
);

-- Calls that the ledger holds of the last seconds: those in flight count, too.
create or replace function operations.calls_spent(account text, seconds integer) returns bigint
language plpgsql stable as $$
declare
  spent bigint := 0;
begin
  if to_regclass('quota.tap_defender_lr_calls') is not null then
    execute 'select count(*) from quota.tap_defender_lr_calls where account = $1 and until > extract(epoch from now()) - $2'
      into spent using account, seconds;
  end if;
  return spent;
end $$;

-- Until when the service wants no calls; null when it takes them.
create or replace function operations.closed_until(account text) returns timestamptz
language plpgsql stable as $$
declare
  moment timestamptz;
begin
  if to_regclass('quota.tap_defender_lr_gates') is not null then
    execute 'select to_timestamp(closed_until) from quota.tap_defender_lr_gates
      where account = $1 and closed_until > extract(epoch from now())' into moment using account;
  end if;
  return moment;
end $$;

-- How many results there are, by status; times are UTC.
create or replace function operations.results(warehouse_schema text)
returns table (newest_result timestamp, results bigint, failed_results bigint, results_by_status jsonb)
language plpgsql stable as $$
begin
  if to_regclass(format('%I.live_response_results', warehouse_schema)) is null then
    return query select null::timestamp, 0::bigint, 0::bigint, '{}'::jsonb;
  else
    return query execute format(
      'select max(newest), coalesce(sum(number), 0)::bigint,
         coalesce(sum(number) filter (where result_status = ''failed''), 0)::bigint,
         coalesce(jsonb_object_agg(result_status, number), ''{}'')
       from (
         select result_status, count(*) as number, max(last_update_date_time_utc) as newest
         from %I.live_response_results group by result_status
       ) as statuses', warehouse_schema);
  end if;
end $$;

-- How many actions there are, how many still wait for their device, and of how many every result is here.
create or replace function operations.actions(warehouse_schema text)
returns table (actions bigint, open_actions bigint, complete_actions bigint)
language plpgsql stable as $$
begin
  if to_regclass(format('%I.machine_actions', warehouse_schema)) is null
    or to_regclass(format('%I.live_response_results', warehouse_schema)) is null then
    return query select 0::bigint, 0::bigint, 0::bigint;
  else
    return query execute format(
      'with results as (
         select machine_action_id, count(*) as number
         from %1$I.live_response_results where result_status <> ''failed'' group by machine_action_id
       )
       select count(*), count(*) filter (where a.status in (''Pending'', ''InProgress'')),
         count(*) filter (where a.status not in (''Pending'', ''InProgress'')
           and coalesce(r.number, 0) >= coalesce(cardinality(a.commands), 0))
       from %1$I.machine_actions as a left join results as r on r.machine_action_id = a.id', warehouse_schema);
  end if;
end $$;

create or replace view operations.overview as
select t.name as tenant,
  succeeded.ended_at as last_success,
  coalesce(now() - succeeded.ended_at > t.stale_after, true) as stale,
  latest.ended_at as last_run,
  case when not latest.succeeded then latest.says end as last_failure,
  latest.results_left,
  r.newest_result, r.results, r.failed_results, r.results_by_status,
  a.actions, a.open_actions, a.complete_actions,
  round(100.0 * a.complete_actions / nullif(a.actions, 0), 1) as coverage_percent,
  greatest(t.calls_per_minute - operations.calls_spent(t.account, 60), 0) as calls_left_this_minute,
  greatest(t.calls_per_hour - operations.calls_spent(t.account, 3600), 0) as calls_left_this_hour,
  operations.closed_until(t.account) as closed_until
from operations.tenants as t
left join lateral (
  select max(ended_at) as ended_at from operations.runs where runs.tenant = t.name and runs.succeeded
) as succeeded on true
left join lateral (
  select * from operations.runs where runs.tenant = t.name order by ended_at desc limit 1
) as latest on true
cross join lateral operations.results(t.warehouse_schema) as r
cross join lateral operations.actions(t.warehouse_schema) as a
order by stale desc, t.name;
