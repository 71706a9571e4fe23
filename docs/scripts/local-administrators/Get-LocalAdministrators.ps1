# Prints one JSON document on one line: the members of the local group Administrators, whatever its name is here.
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

# The members come from ADSI: Get-LocalGroupMember fails if the account of a single member no longer exists.
function Get-Property($Member, $Name) {
    try { $Member.GetType().InvokeMember($Name, 'GetProperty', $null, $Member, $null) } catch { $null }
}

$members = @()
$groupName = 'Administrators'
try {
    $sid = New-Object System.Security.Principal.SecurityIdentifier('S-1-5-32-544')
    $groupName = $sid.Translate([System.Security.Principal.NTAccount]).Value.Split('\')[-1]
    $group = [ADSI]"WinNT://$env:COMPUTERNAME/$groupName,group"
    $members = @($group.psbase.Invoke('Members'))
} catch {
    $problems += "The group $groupName could not be read: $($_.Exception.Message)"
}

$rows = @(foreach ($member in $members) {
    try {
        # WinNT://CONTOSO/a.novak, or WinNT://CONTOSO/FRA-LT-0142/Administrator for an account of this device.
        $parts = @("$(Get-Property $member 'ADsPath')" -replace '^WinNT://', '' -split '/')
        $isLocal = $parts.Count -ge 2 -and $parts[-2] -eq $env:COMPUTERNAME
        $type = Get-Text (Get-Property $member 'Class')
        # Asked for accounts of this device only: others would have to be looked up.
        $disabled = if ($isLocal) { Get-Property $member 'AccountDisabled' } else { $null }
        $bytes = Get-Property $member 'objectSid'
        $name = (@($parts | Select-Object -Last 2)) -join '\'
        $id = $null
        if ($bytes) {
            $id = (New-Object System.Security.Principal.SecurityIdentifier([byte[]]$bytes, 0)).Value
        } elseif ($parts.Count -eq 1 -and $name -match '^S-1-[0-9-]+$') {
            # An account that no longer exists is named by its SID.
            $id = $name
        } elseif ($parts.Count -ge 2) {
            try {
                $account = New-Object System.Security.Principal.NTAccount($parts[-2], $parts[-1])
                $id = $account.Translate([System.Security.Principal.SecurityIdentifier]).Value
            } catch { }
        }
        $origin = 'domain'
        if (-not $id) {
            # The whole path, so that no two members share an ID.
            $id = if ($name) { $parts -join '\' } else { "unknown member $($problems.Count + 1)" }
            $origin = 'unknown'
            $problems += "The SID of $id could not be read."
        }
        elseif ($isLocal) { $origin = 'local' }
        elseif ($id -like 'S-1-12-1-*') { $origin = 'entra' }
        elseif ($parts[-1] -like 'S-1-*') { $origin = 'unknown' }
        elseif ($id -notlike 'S-1-5-21-*') { $origin = 'system' }
        [pscustomobject]@{
            account_id = $id
            name = Get-Text $name
            account_type = $type
            origin = $origin
            enabled = if ($disabled -is [bool]) { -not $disabled } else { $null }
            granted_by = $groupName
        }
    } catch {
        $problems += "A member of $groupName could not be read: $($_.Exception.Message)"
    }
})

# Each key once, compared character by character: Sort-Object -Unique takes what differs in case or in an invisible
# character for the same.
$seen = New-Object 'System.Collections.Generic.HashSet[string]' -ArgumentList ([StringComparer]::Ordinal)
$rows = @($rows | Where-Object { $seen.Add("$($_.account_id)") })

ConvertTo-Json -Depth 4 -Compress -InputObject ([ordered]@{
    succeeded = ($problems.Count -eq 0)
    errors = @($problems)
    administrators = @($rows | Sort-Object -Property account_id)
})
