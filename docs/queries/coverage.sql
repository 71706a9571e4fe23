-- Which script has run on how many devices, and with what outcome?
--
-- A device counts once for each script, by the newest request: ok, failed, no_result (nothing to read: it never ran,
-- or the service has no result) or waiting. never_answered: of this script no result was ever read from it.
with results as (  -- a loader that appends has older rows of a key, too: the newest counts
  select * from (
    select r.*, row_number() over (
      partition by machine_action_id, command_index
      order by last_update_date_time_utc desc, case result_status when 'failed' then 1 else 0 end) as place
    from live_response_results as r
  ) as ranked
  where place = 1
), actions as (
  select * from (
    select a.*, row_number() over (
      partition by id
      order by last_update_date_time_utc desc,
        case status when 'Pending' then 2 when 'InProgress' then 1 else 0 end) as place
    from machine_actions as a
  ) as ranked
  where place = 1
), scripts as (  -- which scripts an action runs stands in its commands
  select actions.id, (((c.command -> 'command') -> 'params') -> p.n) ->> 'value' as script_name
  from actions cross join lateral unnest(actions.commands) as c(command) cross join generate_series(0, 9) as p(n)
  where ((((c.command -> 'command') -> 'params') -> p.n) ->> 'key') = 'ScriptName'
), requests as (
  select machine_id, computer_dns_name, script_name, creation_date_time_utc as requested_at, machine_action_id,
    command_index, coalesce(command_end_time, last_update_date_time_utc) as ended_at, case
      when result_status <> 'fetched' then 'no_result'
      when coalesce(exit_code, 0) <> 0 or lower(coalesce(command_status, '')) = 'failed' then 'failed'
      else 'ok'
    end as state
  from results
  where script_name is not null
  union all
  select a.machine_id, a.computer_dns_name, s.script_name, a.creation_date_time_utc, a.id, 0, null, 'waiting'
  from actions as a join scripts as s on s.id = a.id
  where a.status in ('Pending', 'InProgress')
), newest as (
  select script_name, state, row_number() over (
      partition by machine_id, lower(script_name)
      order by requested_at desc, machine_action_id desc, command_index desc) as place,
    sum(case when state in ('ok', 'failed') then 1 else 0 end) over (
      partition by machine_id, lower(script_name)) as answers
  from requests
)
select max(script_name) as script, count(*) as devices,
  count(*) filter (where state = 'ok') as ok,
  count(*) filter (where state = 'failed') as failed,
  count(*) filter (where state = 'no_result') as no_result,
  count(*) filter (where state = 'waiting') as waiting,
  count(*) filter (where answers = 0) as never_answered,
  round(100.0 * count(*) filter (where state = 'ok') / count(*), 1) as ok_percent
from newest
where place = 1
group by lower(script_name)
order by devices desc, lower(script_name);
