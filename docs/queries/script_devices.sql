-- Where does a script stand on each device: ok, failed, no_result, waiting, or not_asked?
--
-- The newest request counts. last_answer_at: when a result of it was read last, whatever came later. not_asked: the
-- device was asked for something else only. Devices that were never asked for anything are not known here.
with parameters as (
  select 'Get-InstalledSoftware.%' as script  -- a name, or a pattern with %
), results as (  -- a loader that appends has older rows of a key, too: the newest counts
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
), ranked as (
  select requests.*, row_number() over (
      partition by machine_id order by requested_at desc, machine_action_id desc, command_index desc) as place,
    max(case when state in ('ok', 'failed') then ended_at end) over (partition by machine_id) as last_answer_at
  from requests cross join parameters
  where lower(requests.script_name) like lower(parameters.script)
), devices as (
  select machine_id, max(computer_dns_name) as computer_dns_name
  from (
    select machine_id, computer_dns_name from results union all select machine_id, computer_dns_name from actions
  ) as known
  where machine_id is not null
  group by machine_id
)
select devices.computer_dns_name, devices.machine_id, coalesce(r.state, 'not_asked') as state, r.script_name,
  r.requested_at, r.last_answer_at
from devices left join ranked as r on r.machine_id = devices.machine_id and r.place = 1
order by state, devices.computer_dns_name, devices.machine_id;
