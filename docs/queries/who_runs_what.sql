-- Who runs what, on how many devices, and how often?
--
-- Commands of actions that have ended. What was run by hand in the portal is not in the API.
with results as (  -- a loader that appends has older rows of a key, too: the newest counts
  select * from (
    select r.*, row_number() over (
      partition by machine_action_id, command_index
      order by last_update_date_time_utc desc, case result_status when 'failed' then 1 else 0 end) as place
    from live_response_results as r
  ) as ranked
  where place = 1
)
select requestor, command_type, max(script_name) as script, count(distinct machine_action_id) as actions,
  count(distinct machine_id) as devices, count(*) filter (where result_status = 'fetched') as results,
  min(creation_date_time_utc) as first_requested, max(creation_date_time_utc) as last_requested
from results
group by requestor, command_type, lower(script_name)
order by requestor, command_type, lower(script_name);
