-- Which devices have not answered yet, since when, and until when does the service wait for them?
--
-- hours_waiting counts up to the newest update in the table. The service gives up after three days: ends_at.
-- last_answer_at: when the device ended a command last, of any kind.
with actions as (
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
), results as (  -- a loader that appends has older rows of a key, too: the newest counts
  select * from (
    select r.*, row_number() over (
      partition by machine_action_id, command_index
      order by last_update_date_time_utc desc, case result_status when 'failed' then 1 else 0 end) as place
    from live_response_results as r
  ) as ranked
  where place = 1
), answers as (
  select machine_id, max(command_end_time) as last_answer_at from results group by machine_id
), now as (
  select max(last_update_date_time_utc) as newest from actions
)
select a.computer_dns_name, a.machine_id, s.script_name, a.status, a.requestor, a.requestor_comment,
  a.creation_date_time_utc as requested_at,
  round(cast(extract(epoch from (now.newest - a.creation_date_time_utc)) as numeric) / 3600, 1) as hours_waiting,
  a.creation_date_time_utc + interval '3 days' as ends_at, answers.last_answer_at, a.id as machine_action_id
from actions as a cross join now
left join scripts as s on s.id = a.id
left join answers on answers.machine_id = a.machine_id
where a.status in ('Pending', 'InProgress')
order by a.creation_date_time_utc, a.id, s.script_name;
