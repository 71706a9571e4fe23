# Prints one JSON document on one line: the software that is installed for all users, 64 bit and 32 bit.
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

function Get-Known($Value) {
    $text = Get-Text $Value
    if ($null -eq $text) { 'unknown' } else { $text }
}

# Installers write the day as 20240930, if at all; some write it in their own way, which is left out.
function Get-Day($Value) {
    $day = [datetime]::MinValue
    $culture = [System.Globalization.CultureInfo]::InvariantCulture
    if ([datetime]::TryParseExact((Get-Text $Value), 'yyyyMMdd', $culture, 'None', [ref]$day)) {
        $day.ToString('yyyy-MM-dd', $culture)
    } else {
        $null
    }
}

# On 64-bit Windows there are two such keys; 32-bit programs write into the second one.
$views = @('Registry32')
if ([Environment]::Is64BitOperatingSystem) { $views = @('Registry64', 'Registry32') }

$rows = @(foreach ($view in $views) {
    $source = if ($view -eq 'Registry64') { 'registry_64' } else { 'registry_32' }
    try {
        $machine = [Microsoft.Win32.RegistryKey]::OpenBaseKey('LocalMachine', $view)
        $uninstall = $machine.OpenSubKey('SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall')
        $names = @($uninstall.GetSubKeyNames())
    } catch {
        $problems += "The Uninstall key ($source) could not be read: $($_.Exception.Message)"
        continue
    }
    foreach ($name in $names) {
        try {
            $entry = $uninstall.OpenSubKey($name)
            # Entries without a name are leftovers; those with a parent are updates of another entry.
            if ($null -eq (Get-Text $entry.GetValue('DisplayName')) -or $entry.GetValue('ParentKeyName')) { continue }
            $size = $entry.GetValue('EstimatedSize')
            [pscustomobject]@{
                name = Get-Known $entry.GetValue('DisplayName')
                version = Get-Known $entry.GetValue('DisplayVersion')
                source = $source
                publisher = Get-Text $entry.GetValue('Publisher')
                install_date = Get-Day $entry.GetValue('InstallDate')
                size_kb = if ($size -is [int] -and $size -ge 0) { $size } else { $null }
            }
        } catch {
            $problems += "The entry $name ($source) could not be read: $($_.Exception.Message)"
        }
    }
})

# Each key once, compared character by character: Sort-Object -Unique takes what differs in case or in an invisible
# character for the same.
$seen = New-Object 'System.Collections.Generic.HashSet[string]' -ArgumentList ([StringComparer]::Ordinal)
$rows = @($rows | Where-Object { $seen.Add(($_.name, $_.version, $_.source) -join "`t") })

ConvertTo-Json -Depth 4 -Compress -InputObject ([ordered]@{
    succeeded = ($problems.Count -eq 0)
    errors = @($problems)
    software = @($rows | Sort-Object -Property name, version, source)
})
