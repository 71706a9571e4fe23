-- The tables of the two streams from the files that target-jsonl has written to `output`, for DuckDB.
--
-- The loader appends, so a key may stand in several rows; the queries take the newest one.
create or replace table live_response_results as
select * from read_json('output/live_response_results.jsonl', format = 'newline_delimited',
  maximum_object_size = 67108864, columns = {
    machine_action_id: 'varchar', command_index: 'bigint', tenant_id: 'varchar', machine_id: 'varchar',
    computer_dns_name: 'varchar', requestor: 'varchar', requestor_comment: 'varchar', request_source: 'varchar',
    action_status: 'varchar', creation_date_time_utc: 'timestamp', last_update_date_time_utc: 'timestamp',
    command_type: 'varchar', command_status: 'varchar', command_params: 'json', command_errors: 'varchar[]',
    command_start_time: 'timestamp', command_end_time: 'timestamp', result_status: 'varchar', result_error: 'varchar',
    script_name: 'varchar', exit_code: 'bigint', script_output: 'varchar', script_errors: 'varchar',
    script_output_truncated: 'boolean', script_errors_truncated: 'boolean', transcript_path: 'varchar',
    result_size: 'bigint', result_sha256: 'varchar', file_name: 'varchar', file_size: 'bigint',
    file_sha256: 'varchar', file_url: 'varchar'
  });

create or replace table machine_actions as
select * from read_json('output/machine_actions.jsonl', format = 'newline_delimited',
  maximum_object_size = 67108864, columns = {
    id: 'varchar', tenant_id: 'varchar', type: 'varchar', title: 'varchar', requestor: 'varchar',
    requestor_comment: 'varchar', status: 'varchar', machine_id: 'varchar', computer_dns_name: 'varchar',
    creation_date_time_utc: 'timestamp', last_update_date_time_utc: 'timestamp', cancellation_requestor: 'varchar',
    cancellation_comment: 'varchar', cancellation_date_time_utc: 'timestamp', error_h_result: 'bigint',
    scope: 'varchar', external_id: 'varchar', request_source: 'varchar', related_file_info: 'json',
    commands: 'json[]', troubleshoot_info: 'json', extra: 'json'
  });
