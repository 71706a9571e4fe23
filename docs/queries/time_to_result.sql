-- How long does it take from the request to the end of the script on the device?
--
-- In minutes, for scripts that ran. A device that was offline makes the maximum, so look at the median, too.
with results as (  -- a loader that appends has older rows of a key, too: the newest counts
  select * from (
    select r.*, row_number() over (
      partition by machine_action_id, command_index
      order by last_update_date_time_utc desc, case result_status when 'failed' then 1 else 0 end) as place
    from live_response_results as r
  ) as ranked
  where place = 1
), times as (
  select script_name, cast(extract(epoch from (command_end_time - creation_date_time_utc)) as double precision) / 60
    as minutes
  from results
  where script_name is not null and command_end_time is not null and creation_date_time_utc is not null
)
select max(script_name) as script, count(*) as results,
  round(cast(percentile_cont(0.5) within group (order by minutes) as numeric), 1) as median_minutes,
  round(cast(percentile_cont(0.9) within group (order by minutes) as numeric), 1) as p90_minutes,
  round(cast(max(minutes) as numeric), 1) as longest_minutes
from times
group by lower(script_name)
order by lower(script_name);
