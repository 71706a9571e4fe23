# Prints one JSON document on one line: the tasks of the Task Scheduler, and when they ran.
# It only reads, and downloads nothing. Part of tap-defender-lr; licence: that of the project (MIT).
# Fails where there is no console, and is not needed there.
try { [Console]::OutputEncoding = [System.Text.Encoding]::UTF8 } catch { }
$ProgressPreference = 'SilentlyContinue'
$ErrorActionPreference = 'Stop'
$problems = @()

# A text without control characters and blanks at its ends, or null if nothing is left.
function Get-Text($Value) {
    $text = ("$Value" -replace '[\x00-\x1f]', ' ').Trim()
    if ($text) { $text } else { $null }
}

# A moment in UTC. The Task Scheduler writes a day in 1999 for "never".
function Get-Moment($Value) {
    if ($Value -isnot [datetime] -or $Value.Year -lt 2000) { return $null }
    $Value.ToUniversalTime().ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", [System.Globalization.CultureInfo]::InvariantCulture)
}

# What starts the task: Boot, Daily, Logon and so on.
function Get-TriggerKind($Trigger) {
    $kind = $Trigger.CimClass.CimClassName -replace '^MSFT_Task', '' -replace 'Trigger$', ''
    if ($kind) { $kind } else { 'Other' }
}

# Command lines may hold secrets: what follows the usual names of one becomes ***.
function Get-Masked($Text) {
    $names = 'password|passwd|passphrase|pwd|token|secret'
    $value = '("[^"]*"?|''[^'']*''?|[^\s"''&;]+)'
    # https://user:x@host
    $masked = "$Text" -replace '(://[^\s/:@]*:)[^\s/]+@', '$1***@'
    # password=x, API_TOKEN=x, ?sig=x
    $masked = $masked -replace "(($names|sig)\s*=\s*)$value", '$1***'
    # --password x, -Password:x, /password:x, and /rp x of schtasks
    $masked = $masked -replace "((^|[\s`"'])[-/][\w-]*($names):)$value", '$1***'
    $masked = $masked -replace "((^|[\s`"'])-[\w-]*($names)\s+)$value", '$1***'
    $masked -replace "((^|[\s`"'])/rp([:=]|\s+))$value", '$1***'
}

# A program with its arguments, or the class of a COM object.
function Get-Action($Action) {
    if ($Action.CimClass.CimClassName -eq 'MSFT_TaskExecAction') { "$($Action.Execute) $($Action.Arguments)".Trim() }
    elseif ($Action.ClassId) { "COM $($Action.ClassId)" }
    else { $Action.CimClass.CimClassName }
}

$tasks = @()
try {
    # One odd task must not hide the others.
    $failed = @()
    $tasks = @(Get-ScheduledTask -ErrorAction SilentlyContinue -ErrorVariable failed)
    foreach ($failure in $failed) { $problems += "A task could not be read: $($failure.Exception.Message)" }
} catch {
    # No such command, or no Task Scheduler.
    $problems += "The tasks could not be read: $($_.Exception.Message)"
}

$rows = @(foreach ($task in $tasks) {
    $id = "$($task.TaskPath)$($task.TaskName)"
    $run = $null
    try {
        $failed = @()
        $run = $task | Get-ScheduledTaskInfo -ErrorAction SilentlyContinue -ErrorVariable failed
        foreach ($failure in $failed) {
            $problems += "The runs of $id could not be read: $($failure.Exception.Message)"
        }
    } catch {
        $problems += "The runs of $id could not be read: $($_.Exception.Message)"
    }
    try {
        $runAs = Get-Text $task.Principal.UserId
        if ($null -eq $runAs) { $runAs = Get-Text $task.Principal.GroupId }
        $triggers = @($task.Triggers | Where-Object { $_ } | ForEach-Object { Get-TriggerKind $_ })
        $actions = @($task.Actions | Where-Object { $_ } | ForEach-Object { Get-Action $_ })
        [pscustomobject]@{
            task_id = $id
            name = Get-Text $task.TaskName
            source = 'task_scheduler'
            enabled = ("$($task.State)" -ne 'Disabled')
            run_as = $runAs
            schedule = Get-Text (@($triggers | Sort-Object -Unique) -join ', ')
            command = Get-Text (Get-Masked ($actions -join ' ; '))
            last_run_time = Get-Moment $run.LastRunTime
            next_run_time = Get-Moment $run.NextRunTime
            last_result = if ($run) { [long]$run.LastTaskResult } else { $null }
        }
    } catch {
        $problems += "The task $id could not be read: $($_.Exception.Message)"
    }
})

# Each key once, compared character by character: Sort-Object -Unique takes what differs in case or in an invisible
# character for the same.
$seen = New-Object 'System.Collections.Generic.HashSet[string]' -ArgumentList ([StringComparer]::Ordinal)
$rows = @($rows | Where-Object { $seen.Add("$($_.task_id)") })

ConvertTo-Json -Depth 4 -Compress -InputObject ([ordered]@{
    succeeded = ($problems.Count -eq 0)
    errors = @($problems)
    tasks = @($rows | Sort-Object -Property task_id)
})
