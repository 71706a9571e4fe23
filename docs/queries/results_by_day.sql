-- How many results came on each day (UTC), and with what outcome?
with results as (  -- a loader that appends has older rows of a key, too: the newest counts
  select * from (
    select r.*, row_number() over (
      partition by machine_action_id, command_index
      order by last_update_date_time_utc desc, case result_status when 'failed' then 1 else 0 end) as place
    from live_response_results as r
  ) as ranked
  where place = 1
), outcomes as (
  select cast(last_update_date_time_utc as date) as day, machine_id, case
      when result_status <> 'fetched' then 'no_result'
      when coalesce(exit_code, 0) <> 0 or lower(coalesce(command_status, '')) = 'failed' then 'failed'
      else 'ok'
    end as state
  from results
  where script_name is not null
)
select day, count(*) as results, count(distinct machine_id) as devices,
  count(*) filter (where state = 'ok') as ok,
  count(*) filter (where state = 'failed') as failed,
  count(*) filter (where state = 'no_result') as no_result
from outcomes
group by day
order by day;
