-- What has changed on each device between the last two runs of a script?
--
-- Compares the rows of the outputs: lines, and of JSON the objects in a list. A row is changed if its text up to the
-- first comma (the first field of JSON or CSV) is the same and the rest is not; else it was added or removed. Only
-- runs that worked and whose output was not cut count. Devices with one such run are left out.
with parameters as (
  select 'Get-LocalAdministrators.%' as script  -- a name, or a pattern with %
), results as (  -- a loader that appends has older rows of a key, too: the newest counts
  select * from (
    select r.*, row_number() over (
      partition by machine_action_id, command_index
      order by last_update_date_time_utc desc, case result_status when 'failed' then 1 else 0 end) as place
    from live_response_results as r
  ) as ranked
  where place = 1
), runs as (
  select machine_id, computer_dns_name, lower(script_name) as script, script_output,
    coalesce(command_end_time, last_update_date_time_utc) as ran_at, row_number() over (
      partition by machine_id, lower(script_name)
      order by coalesce(command_end_time, last_update_date_time_utc) desc, machine_action_id desc, command_index desc
    ) as run
  from results cross join parameters
  where result_status = 'fetched' and coalesce(exit_code, 0) = 0 and lower(coalesce(command_status, '')) <> 'failed'
    and not coalesce(script_output_truncated, false) and lower(script_name) like lower(parameters.script)
), pairs as (
  select now.machine_id, now.script, now.computer_dns_name, before.ran_at as ran_before, now.ran_at as ran_now
  from runs as now join runs as before on before.machine_id = now.machine_id and before.script = now.script
  where now.run = 1 and before.run = 2
), outputs as (  -- without colours
  select machine_id, script, run,
    replace(regexp_replace(script_output, chr(27) || '\[[0-9;]*m', '', 'g'), '}, {', '},{') as output
  from runs
  where run <= 2
), pieces as (
  select machine_id, script, run, unnest(string_to_array(replace(replace(replace(output,
    '},{', '}' || chr(10) || '{'), '[{', '[' || chr(10) || '{'), '}]', '}' || chr(10) || ']'), chr(10))) as piece
  from outputs
), lines as (
  select distinct machine_id, script, run, trim(piece, ' ,' || chr(9) || chr(13)) as line
  from pieces
  where trim(piece, ' ,' || chr(9) || chr(13)) <> ''
), differences as (
  select coalesce(now.machine_id, before.machine_id) as machine_id, coalesce(now.script, before.script) as script,
    split_part(coalesce(now.line, before.line), ',', 1) as row_key, before.line as before, now.line as now
  from (select * from lines where run = 1) as now
  full join (select * from lines where run = 2) as before
    on before.machine_id = now.machine_id and before.script = now.script and before.line = now.line
  where now.line is null or before.line is null
), counted as (
  select differences.*, count(before) over (partition by machine_id, script, row_key) as gone,
    count(now) over (partition by machine_id, script, row_key) as come
  from differences
), changes as (
  select machine_id, script, 'changed' as change, max(before) as before, max(now) as now
  from counted
  where gone = 1 and come = 1
  group by machine_id, script, row_key
  union all
  select machine_id, script, case when before is null then 'added' else 'removed' end, before, now
  from counted
  where not (gone = 1 and come = 1)
)
select pairs.computer_dns_name, pairs.script, changes.change, changes.before, changes.now, pairs.ran_before,
  pairs.ran_now, pairs.machine_id
from changes join pairs on pairs.machine_id = changes.machine_id and pairs.script = changes.script
order by pairs.computer_dns_name, pairs.script, changes.change, coalesce(changes.now, changes.before);
