-- Which scripts failed last, and what did they say?
with results as (  -- a loader that appends has older rows of a key, too: the newest counts
  select * from (
    select r.*, row_number() over (
      partition by machine_action_id, command_index
      order by last_update_date_time_utc desc, case result_status when 'failed' then 1 else 0 end) as place
    from live_response_results as r
  ) as ranked
  where place = 1
)
select last_update_date_time_utc as ended_at, computer_dns_name, script_name, action_status, exit_code, result_status,
  substr(coalesce(script_errors, command_errors[1], result_error, script_output), 1, 500) as said, requestor, machine_id,
  machine_action_id, command_index
from results
where script_name is not null and (
  result_status <> 'fetched' or coalesce(exit_code, 0) <> 0 or lower(coalesce(command_status, '')) = 'failed')
order by last_update_date_time_utc desc, machine_action_id, command_index
limit 20;
