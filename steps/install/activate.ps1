# Uses what is on this disk in your PowerShell:
#
#     . X:\activate.ps1
#     deactivate                           undoes it (portunix_deactivate, if a virtual environment has taken that name)
#
# Made by portunix-vdisk whenever something is installed on the disk or removed. The disk is found by the place of this
# file: mount it wherever you like.

# A second time, or another disk: the first one goes.
if (Test-Path variable:global:_portunix_was) { portunix_deactivate }

function global:portunix_deactivate {
    foreach ($name in @($global:_portunix_was.Keys)) {
        # Null removes a variable.
        [Environment]::SetEnvironmentVariable($name, $global:_portunix_was[$name])
    }
    if (Test-Path function:global:_portunix_prompt) {
        Copy-Item function:global:_portunix_prompt function:global:prompt
        Remove-Item function:global:_portunix_prompt
    }
    if ($global:_portunix_deactivate -and -not $env:VIRTUAL_ENV) { Remove-Item function:global:deactivate }
    Remove-Variable -Scope Global -Name _portunix_was, _portunix_label, _portunix_deactivate -ErrorAction SilentlyContinue
    Remove-Item function:global:portunix_deactivate
}

$global:_portunix_was = @{}
& {
    param($root)

    function Set-One($name, $value) {
        if (-not $global:_portunix_was.ContainsKey($name)) {
            $global:_portunix_was[$name] = [Environment]::GetEnvironmentVariable($name)
        }
        [Environment]::SetEnvironmentVariable($name, $value)
    }

    function Add-InFront($name, [string[]] $folders) {
        $rest = [Environment]::GetEnvironmentVariable($name)
        $all = if ($rest) { $folders + @($rest) } else { $folders }
        Set-One $name ($all -join [IO.Path]::PathSeparator)
    }

    # What a host's "pip install --prefix" put on the disk is for that version of Python only.
    $python = '@PYTHON@'
    $bins = @()
    $modules = @()
    foreach ($folder in @(Get-ChildItem -LiteralPath $root -Directory | Sort-Object Name)) {
        if ($folder.Name -in @(@OURS@) -or $folder.Name -match '^[.]|[:;\p{C}]' -or $folder.LinkType) { continue }
        $top = $folder.FullName
        if ((Test-Path -LiteralPath "$top/pyvenv.cfg") -or (Test-Path -LiteralPath "$top/bin/python3")) { continue }
        foreach ($kind in @(@('lib', 'site-packages'), @('lib64', 'site-packages'), @('local/lib', 'dist-packages'))) {
            $library = "$top/$($kind[0])"
            if (-not (Test-Path -LiteralPath $library)) { continue }
            foreach ($each in @(Get-ChildItem -LiteralPath $library -Directory -Filter 'python*')) {
                $place = "$($each.FullName)/$($kind[1])"
                if ($each.Name -notmatch '^python(\d+\.\d+)$' -or -not (Test-Path -LiteralPath $place)) { continue }
                $version = $Matches[1]
                if (-not $python) {
                    $python = try { & python3 -I -S -c 'import sys; print(''%d.%d'' % sys.version_info[:2])' } catch { 'none' }
                }
                if ($version -ne $python) {
                    Write-Warning "$($folder.Name) was installed for Python $version, but $python runs here: its packages are not used"
                    continue
                }
                $modules += $place
                $bin = "$(Split-Path -Parent $library)/bin"
                if (Test-Path -LiteralPath $bin) { $bins += $bin }
            }
        }
    }
    if ($modules) { Add-InFront 'PYTHONPATH' $modules }
    if ($bins) { Add-InFront 'PATH' $bins }
@SETTINGS@
} $PSScriptRoot

$global:_portunix_label = (Split-Path -Leaf $PSScriptRoot)
if (Test-Path function:global:prompt) { Copy-Item function:global:prompt function:global:_portunix_prompt }
function global:prompt { "($global:_portunix_label) " + $(if (Test-Path function:global:_portunix_prompt) { _portunix_prompt }) }
$global:_portunix_deactivate = -not $env:VIRTUAL_ENV
if ($global:_portunix_deactivate) { function global:deactivate { portunix_deactivate } }
