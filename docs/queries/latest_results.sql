-- What is the latest result of each script on each device?
--
-- Latest by the end of the command, also if there is no result: result_status and result_error then say why.
with results as (  -- a loader that appends has older rows of a key, too: the newest counts
  select * from (
    select r.*, row_number() over (
      partition by machine_action_id, command_index
      order by last_update_date_time_utc desc, case result_status when 'failed' then 1 else 0 end) as place
    from live_response_results as r
  ) as ranked
  where place = 1
), ranked as (
  select results.*, row_number() over (
    partition by machine_id, lower(script_name)
    order by coalesce(command_end_time, last_update_date_time_utc) desc, machine_action_id desc, command_index desc
  ) as age
  from results
  where script_name is not null
)
select computer_dns_name, script_name, coalesce(command_end_time, last_update_date_time_utc) as ended_at,
  result_status, exit_code, script_output, script_errors, result_error, machine_id, machine_action_id, command_index
from ranked
where age = 1
order by computer_dns_name, lower(script_name), machine_id;
