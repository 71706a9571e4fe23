-- Why do scripts fail, and why are there no results?
--
-- Of PowerShell's errors the identifier is the reason, of others the first line, with the names of script and device
-- and numbers taken out so that equal reasons count together. Where nothing was printed, it is the service's word.
with results as (  -- a loader that appends has older rows of a key, too: the newest counts
  select * from (
    select r.*, row_number() over (
      partition by machine_action_id, command_index
      order by last_update_date_time_utc desc, case result_status when 'failed' then 1 else 0 end) as place
    from live_response_results as r
  ) as ranked
  where place = 1
), failures as (
  select results.*, case result_status when 'fetched' then 'failed' else 'no_result' end as state,
    ltrim(coalesce(script_errors, script_output, ''), ' ' || chr(9) || chr(10) || chr(13)) as printed
  from results
  where script_name is not null and (
    result_status <> 'fetched' or coalesce(exit_code, 0) <> 0 or lower(coalesce(command_status, '')) = 'failed')
), reasons as (
  select failures.*, case
      when state = 'no_result' then result_status || coalesce(': ' || regexp_replace(
        coalesce(command_errors[1], result_error), '[0-9a-f]{8}-[0-9a-f-]{27}', '(id)', 'g'), '')
      when printed like '%FullyQualifiedErrorId : %'
        then split_part(split_part(printed, 'FullyQualifiedErrorId : ', 2), chr(10), 1)
      when printed = '' then 'nothing printed'
      else regexp_replace(replace(replace(lower(split_part(printed, chr(10), 1)), lower(script_name), '(script)'),
        lower(split_part(coalesce(nullif(computer_dns_name, ''), '?'), '.', 1)), '(device)'), '[0-9]+', '#', 'g')
    end as reason
  from failures
)
select state, action_status, exit_code, substr(trim(reason, ' ' || chr(13)), 1, 200) as reason, count(*) as results,
  count(distinct machine_id) as devices, count(distinct lower(script_name)) as scripts,
  max(last_update_date_time_utc) as newest, max(computer_dns_name) as one_of_them
from reasons
group by state, action_status, exit_code, substr(trim(reason, ' ' || chr(13)), 1, 200)
order by results desc, state, action_status, exit_code, reason;
