# Uses what is on this disk in your fish:
#
#     source /where/the/disk/is/activate.fish
#     deactivate                           undoes it (portunix_deactivate, if a virtual environment has taken that name)
#
# Made by portunix-vdisk whenever something is installed on the disk or removed. The disk is found by the place of this
# file: mount it wherever you like.

# A second time, or another disk: the first one goes.
if set -q _portunix_names
    portunix_deactivate
end

function portunix_deactivate
    for name in $_portunix_names
        set -l was _portunix_was_$name
        if set -qg $was
            set -gx $name $$was
            set -eg $was
        else
            set -eg $name
        end
    end
    if functions -q _portunix_prompt
        functions -e fish_prompt
        functions -c _portunix_prompt fish_prompt
        functions -e _portunix_prompt
    end
    if set -q _portunix_deactivate; and not set -q VIRTUAL_ENV
        functions -e deactivate
    end
    set -eg _portunix_names
    set -eg _portunix_label
    set -eg _portunix_deactivate
    functions -e portunix_deactivate
end

function _portunix_set # NAME VALUE
    set -l name $argv[1]
    if not contains -- $name $_portunix_names
        set -ga _portunix_names $name
        if set -qg $name
            set -g _portunix_was_$name $$name
        end
    end
    set -gx $name $argv[2..]
end

function _portunix_front # NAME FOLDERS…
    set -l name $argv[1]
    # A variable that is no list to fish yet becomes one.
    if set -qg $name
        set -gx --path $name $$name
    end
    _portunix_set $name $argv[2..] $$name
    set -gx --path $name $$name
end

# What a host's "pip install --prefix" put on the disk is for that version of Python only.
function _portunix_prefixes --argument-names root
    set -l python @PYTHON@
    set -l bins
    set -l modules
    for each in $root/*/lib/python*/site-packages $root/*/lib64/python*/site-packages \
            $root/*/local/lib/python*/dist-packages $root/*/local/lib64/python*/dist-packages
        # Seen from its end, since the mount point may have anything in its name.
        set -l below (string match -r '[^/]+(?:/local)?/lib(?:64)?/python[^/]+/[a-z]+-packages$' -- $each | string collect)
        set -l name (string replace -r '/.*' '' -- $below | string collect)
        if contains -- $name @OURS@; or string match -qr '[:[:cntrl:]]' -- $name
            continue
        end
        if not test -d $each; or test -L $root/$name; or test -e $root/$name/pyvenv.cfg; or test -e $root/$name/bin/python3
            continue
        end
        set -l made_for (string match -r -g '/python([0-9.]+)/[a-z]+-packages$' -- $below)
        if test -z "$made_for"
            continue
        end
        if test -z "$python"
            set python (python3 -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
            test -n "$python"; or set python none
        end
        if test $made_for != $python
            echo "activate: $name was installed for Python $made_for, but $python runs here: its packages are not used" >&2
            continue
        end
        set -a modules $each
        set -l bin $root/(string replace -r '/lib(64)?/python[^/]*/[^/]*$' /bin -- $below | string collect)
        test -d $bin; and set -a bins $bin
    end
    test -n "$modules"; and _portunix_front PYTHONPATH $modules
    test -n "$bins"; and _portunix_front PATH $bins
    return 0
end

function _portunix_activate --argument-names file
    set -l real (realpath -- $file 2>/dev/null | string collect)
    # The name of a folder may end with a newline.
    set -l root (path dirname -Z -- $real 2>/dev/null | string split0)
    test -n "$root"; or set root (string replace -r '/activate[.]fish$' '' -- $real | string collect)
    if not test -d $root/.vdisk
        echo "activate: fish does not tell where the disk is; use: source /where/it/is/activate.fish" >&2
        return 1
    end
    if string match -q '*:*' -- $root
        echo "activate: a colon in the mount point separates folders of PATH; mount the disk at another place" >&2
        return 1
    end
    _portunix_prefixes $root
@SETTINGS@
    if status is-interactive
        # It is only printed, never evaluated.
        set -g _portunix_label (string replace -ra '[^A-Za-z0-9._-]' _ -- (string replace -r '.*/' '' -- $root | string collect))
        functions -q fish_prompt; and functions -c fish_prompt _portunix_prompt
        function fish_prompt
            echo -n "($_portunix_label) "
            functions -q _portunix_prompt; and _portunix_prompt
        end
    end
    if not set -q VIRTUAL_ENV
        set -g _portunix_deactivate yes
        function deactivate
            portunix_deactivate
        end
    end
end

_portunix_activate (status filename | string collect)
set -g _portunix_status $status
functions -e _portunix_set _portunix_front _portunix_prefixes _portunix_activate
if test $_portunix_status != 0
    functions -e portunix_deactivate
    set -eg _portunix_status
    return 1
end
set -eg _portunix_status
