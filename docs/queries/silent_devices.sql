-- Which devices were asked, and have never answered anything?
--
-- An answer is a command that ended on the device, or a result that was read from it.
with actions as (
  select * from (
    select a.*, row_number() over (
      partition by id
      order by last_update_date_time_utc desc,
        case status when 'Pending' then 2 when 'InProgress' then 1 else 0 end) as place
    from machine_actions as a
  ) as ranked
  where place = 1
), results as (  -- a loader that appends has older rows of a key, too: the newest counts
  select * from (
    select r.*, row_number() over (
      partition by machine_action_id, command_index
      order by last_update_date_time_utc desc, case result_status when 'failed' then 1 else 0 end) as place
    from live_response_results as r
  ) as ranked
  where place = 1
), answered as (
  select distinct machine_id
  from results
  where machine_id is not null and (command_end_time is not null or result_status in ('fetched', 'unreadable'))
)
select max(a.computer_dns_name) as computer_dns_name, a.machine_id, count(*) as times_asked,
  count(*) filter (where a.status in ('Pending', 'InProgress')) as waiting,
  count(*) filter (where a.status = 'TimeOut') as timed_out,
  count(*) filter (where a.status = 'Cancelled') as cancelled,
  min(a.creation_date_time_utc) as first_asked, max(a.creation_date_time_utc) as last_asked
from actions as a left join answered on answered.machine_id = a.machine_id
where a.machine_id is not null and answered.machine_id is null
group by a.machine_id
order by first_asked, a.machine_id;
