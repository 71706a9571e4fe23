-- What stands how with each tenant: the view operations.overview, and what it reads.
--
-- `python -m many_tenants prepare` runs this; it can be run again at any time. Tables of tap, loader and ledger are
-- looked for when they are read, since they come with the first runs. The view reads small tables only: a warehouse takes
-- seconds to be counted.

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
-- Whether only some commands of its actions are wanted, so that nobody knows when an action is complete.
alter table operations.tenants add column if not exists filtered boolean not null default false;

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

-- What the tables of a tenant held after one of its last runs.
create table if not exists operations.counts (
  tenant text primary key,
  counted_at timestamptz not null,
  took interval not null,
  newest_result timestamp,
  results bigint not null,
  failed_results bigint not null,
  results_by_status jsonb not null,
  actions bigint not null,
  open_actions bigint not null,
  complete_actions bigint not null
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

-- Counts the rows of a tenant. What took more than a second is not counted again for six hours.
create or replace function operations.count_rows(name text, warehouse_schema text) returns void
language plpgsql as $$
declare
  began timestamptz := clock_timestamp();
  found record;
begin
  if exists (
    select from operations.counts as c
    where c.tenant = name and c.took > interval '1 second' and c.counted_at > began - interval '6 hours'
  ) then
    return;
  end if;
  select * into found from operations.results(warehouse_schema), operations.actions(warehouse_schema);
  delete from operations.counts where tenant = name;
  insert into operations.counts values (
    name, clock_timestamp(), clock_timestamp() - began,
    found.newest_result, found.results, found.failed_results, found.results_by_status,
    found.actions, found.open_actions, found.complete_actions
  );
end $$;

create or replace view operations.overview as
select t.name as tenant,
  succeeded.ended_at as last_success,
  coalesce(now() - succeeded.ended_at > t.stale_after, true) as stale,
  latest.ended_at as last_run,
  case when not latest.succeeded then latest.says end as last_failure,
  latest.results_left,
  c.newest_result,
  coalesce(c.results, 0) as results,
  coalesce(c.failed_results, 0) as failed_results,
  coalesce(c.results_by_status, '{}') as results_by_status,
  coalesce(c.actions, 0) as actions,
  coalesce(c.open_actions, 0) as open_actions,
  case when not t.filtered then coalesce(c.complete_actions, 0) end as complete_actions,
  case when not t.filtered then round(100.0 * c.complete_actions / nullif(c.actions, 0), 1) end as coverage_percent,
  greatest(t.calls_per_minute - operations.calls_spent(t.account, 60), 0) as calls_left_this_minute,
  greatest(t.calls_per_hour - operations.calls_spent(t.account, 3600), 0) as calls_left_this_hour,
  operations.closed_until(t.account) as closed_until,
  c.counted_at
from operations.tenants as t
left join lateral (
  select max(ended_at) as ended_at from operations.runs where runs.tenant = t.name and runs.succeeded
) as succeeded on true
left join lateral (
  select * from operations.runs where runs.tenant = t.name order by ended_at desc limit 1
) as latest on true
left join operations.counts as c
  on c.tenant = t.name and to_regclass(format('%I.live_response_results', t.warehouse_schema)) is not null
order by stale desc, t.name;
