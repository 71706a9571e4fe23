# Prints one JSON document on one line: the TCP and UDP ports on which processes of this device listen.
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

# Names of processes and services, by process ID.
$processes = @{}
$services = @{}
try {
    foreach ($process in Get-CimInstance -ClassName Win32_Process) { $processes[[int]$process.ProcessId] = $process }
    foreach ($service in Get-CimInstance -ClassName Win32_Service -Filter 'ProcessId > 0') {
        $services[[int]$service.ProcessId] = @($services[[int]$service.ProcessId]) + $service.Name
    }
} catch {
    $problems += "Processes and services could not be read: $($_.Exception.Message)"
}

$endpoints = @()
try {
    $endpoints += @(Get-NetTCPConnection -ErrorAction Stop | Where-Object { "$($_.State)" -eq 'Listen' })
    $endpoints += @(Get-NetUDPEndpoint -ErrorAction Stop)
} catch {
    $problems += "The ports could not be read: $($_.Exception.Message)"
}

$rows = @(foreach ($endpoint in $endpoints) {
    $address = Get-Text $endpoint.LocalAddress
    $id = [int]$endpoint.OwningProcess
    $process = $processes[$id]
    [pscustomobject]@{
        protocol = if ($endpoint.CimClass.CimClassName -like '*TCP*') { 'tcp' } else { 'udp' }
        local_address = if ($address) { $address } else { 'unknown' }
        local_port = [int]$endpoint.LocalPort
        process_id = $id
        process_name = Get-Text $process.Name
        process_path = Get-Text $process.ExecutablePath
        service = Get-Text (@($services[$id] | Where-Object { $_ } | Sort-Object) -join ', ')
    }
})

# Each key once, compared character by character: Sort-Object -Unique takes what differs in case or in an invisible
# character for the same.
$seen = New-Object 'System.Collections.Generic.HashSet[string]' -ArgumentList ([StringComparer]::Ordinal)
$rows = @($rows | Where-Object { $seen.Add(($_.protocol, $_.local_address, $_.local_port, $_.process_id) -join "`t") })

ConvertTo-Json -Depth 4 -Compress -InputObject ([ordered]@{
    succeeded = ($problems.Count -eq 0)
    errors = @($problems)
    ports = @($rows | Sort-Object -Property protocol, local_address, local_port, process_id)
})
