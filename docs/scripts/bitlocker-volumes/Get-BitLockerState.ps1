# Prints one JSON document on one line: the volumes of this device, and how BitLocker protects them.
# Of the protectors it prints the types only: never a recovery password, never a key.
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

$volumes = @()
try {
    # One odd volume must not hide the others.
    $failed = @()
    $volumes = @(Get-BitLockerVolume -ErrorAction SilentlyContinue -ErrorVariable failed)
    foreach ($failure in $failed) { $problems += "A volume could not be read: $($failure.Exception.Message)" }
} catch {
    # On servers BitLocker is a feature that may not be installed: then there is no such command.
    $problems += "BitLocker could not be asked: $($_.Exception.Message)"
}

$rows = @(foreach ($volume in $volumes) {
    try {
        $protectors = @($volume.KeyProtector | ForEach-Object { "$($_.KeyProtectorType)" } | Sort-Object -Unique)
        $mountPoint = Get-Text $volume.MountPoint
        $percentage = $volume.EncryptionPercentage
        $capacity = $volume.CapacityGB
        [pscustomobject]@{
            mount_point = if ($mountPoint) { $mountPoint } else { 'unknown' }
            volume_type = Get-Text $volume.VolumeType
            protection_status = Get-Text $volume.ProtectionStatus
            volume_status = Get-Text $volume.VolumeStatus
            lock_status = Get-Text $volume.LockStatus
            encryption_method = Get-Text $volume.EncryptionMethod
            # Null while the volume is locked.
            encryption_percentage = if ($null -eq $percentage) { $null } else { [math]::Round([double]$percentage, 2) }
            key_protectors = Get-Text ($protectors -join ', ')
            capacity_gb = if ($null -eq $capacity) { $null } else { [math]::Round([double]$capacity, 2) }
        }
    } catch {
        $problems += "The volume $($volume.MountPoint) could not be read: $($_.Exception.Message)"
    }
})

# Each key once, compared character by character: Sort-Object -Unique takes what differs in case or in an invisible
# character for the same.
$seen = New-Object 'System.Collections.Generic.HashSet[string]' -ArgumentList ([StringComparer]::Ordinal)
$rows = @($rows | Where-Object { $seen.Add("$($_.mount_point)") })

ConvertTo-Json -Depth 4 -Compress -InputObject ([ordered]@{
    succeeded = ($problems.Count -eq 0)
    errors = @($problems)
    volumes = @($rows | Sort-Object -Property mount_point)
})
