# Uses what is on this disk in your shell:
#
#     . /where/the/disk/is/activate        bash, zsh and other POSIX shells; fish: activate.fish, PowerShell: activate.ps1
#     deactivate                           undoes it (portunix_deactivate, if a virtual environment has taken that name)
#
# Made by portunix-vdisk whenever something is installed on the disk or removed. The disk is found by the place of this
# file: mount it wherever you like.

# A second time, or another disk: the first one goes.
if [ -n "${_portunix_names-}" ]; then portunix_deactivate; fi

portunix_deactivate() {
    if [ -n "${ZSH_VERSION-}" ]; then emulate -L sh; fi
    while [ -n "${_portunix_names-}" ]; do
        _portunix_name=${_portunix_names%% *}
        _portunix_names=${_portunix_names#* }
        eval "_portunix_is=\${_portunix_was_$_portunix_name+x}"
        if [ -n "$_portunix_is" ]; then
            eval "export $_portunix_name=\"\$_portunix_was_$_portunix_name\""
            unset "_portunix_was_$_portunix_name"
        else
            unset "$_portunix_name"
            unset "_portunix_not_$_portunix_name"
        fi
    done
    if [ -n "${_portunix_prompt+x}" ]; then PS1=$_portunix_prompt; fi
    hash -r 2>/dev/null || :
    if [ -n "${_portunix_deactivate-}" ] && [ -z "${VIRTUAL_ENV-}" ]; then unset -f deactivate 2>/dev/null || :; fi
    unset _portunix_names _portunix_name _portunix_is _portunix_prompt _portunix_deactivate
    unset -f portunix_deactivate
}

_portunix_set() { # NAME VALUE
    eval "_portunix_is=\${_portunix_was_$1+x}\${_portunix_not_$1+x}"
    if [ -z "$_portunix_is" ]; then
        _portunix_names="$1 ${_portunix_names-}"
        eval "_portunix_is=\${$1+x}"
        if [ -n "$_portunix_is" ]; then eval "_portunix_was_$1=\$$1"; else eval "_portunix_not_$1=x"; fi
    fi
    export "$1=$2"
}

_portunix_front() { # NAME FOLDERS
    eval "_portunix_rest=\${$1:+:\$$1}"
    _portunix_set "$1" "$2$_portunix_rest"
}

# Where this file is. Only some shells tell; of the others the descriptor that it is read from does.
_portunix_find() {
    if [ -n "${ZSH_VERSION-}" ]; then emulate -L sh; fi
    if [ -z "$_portunix_file" ] && [ -d /proc/self/fd ]; then
        _portunix_shell=$(exec sh -c 'echo "$PPID"')
        for _portunix_open in "/proc/$_portunix_shell/fd/"*; do
            _portunix_open=$(readlink -- "$_portunix_open") || continue
            case $_portunix_open in
            */activate) if [ -d "${_portunix_open%/*}/.vdisk" ]; then _portunix_file=$_portunix_open; fi ;;
            esac
        done
    fi
    if [ -z "$_portunix_file" ] && [ -f ./activate ] && [ -d ./.vdisk ]; then _portunix_file=./activate; fi
    if [ -z "$_portunix_file" ]; then
        echo "activate: this shell does not tell where the disk is; cd there, and then: . ./activate" >&2
        return 1
    fi
    case $_portunix_file in
    /*) ;;
    *) _portunix_file=$PWD/$_portunix_file ;;
    esac
    if command -v readlink >/dev/null 2>&1; then
        _portunix_open=$(readlink -f -- "$_portunix_file" 2>/dev/null) || _portunix_open=
        _portunix_file=${_portunix_open:-$_portunix_file}
    fi
    _portunix_root=${_portunix_file%/*}
    case $_portunix_root in
    *:*)
        echo "activate: a colon in the mount point separates folders of PATH; mount the disk at another place" >&2
        return 1
        ;;
    esac
}

# What a host's "pip install --prefix" put on the disk is for that version of Python only.
_portunix_prefixes() {
    _portunix_python=@PYTHON@ _portunix_bins='' _portunix_modules=''
    for _portunix_each in "$_portunix_root"/*/lib/python*/site-packages "$_portunix_root"/*/lib64/python*/site-packages \
        "$_portunix_root"/*/local/lib/python*/dist-packages "$_portunix_root"/*/local/lib64/python*/dist-packages; do
        _portunix_name=${_portunix_each#"$_portunix_root"/}
        _portunix_name=${_portunix_name%%/*}
        case $_portunix_name in @OURS@ | *[:[:cntrl:]]*) continue ;; esac
        if [ ! -d "$_portunix_each" ] || [ -h "$_portunix_root/$_portunix_name" ]; then continue; fi
        if [ -e "$_portunix_root/$_portunix_name/pyvenv.cfg" ]; then continue; fi
        if [ -e "$_portunix_root/$_portunix_name/bin/python3" ]; then continue; fi
        _portunix_is=${_portunix_each%/*}
        _portunix_is=${_portunix_is##*/python}
        case $_portunix_is in *[!0-9.]*) continue ;; esac
        if [ -z "$_portunix_python" ]; then
            _portunix_python=$(python3 -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || :
            _portunix_python=${_portunix_python:-none}
        fi
        if [ "$_portunix_is" != "$_portunix_python" ]; then
            echo "activate: $_portunix_name was installed for Python $_portunix_is, but $_portunix_python runs here:" \
                "its packages are not used" >&2
            continue
        fi
        _portunix_modules=${_portunix_modules:+$_portunix_modules:}$_portunix_each
        _portunix_each=${_portunix_each%/lib*/python*}/bin
        if [ -d "$_portunix_each" ]; then _portunix_bins=${_portunix_bins:+$_portunix_bins:}$_portunix_each; fi
    done
    if [ -n "$_portunix_modules" ]; then _portunix_front PYTHONPATH "$_portunix_modules"; fi
    if [ -n "$_portunix_bins" ]; then _portunix_front PATH "$_portunix_bins"; fi
}

_portunix_activate() {
    if [ -n "${ZSH_VERSION-}" ]; then emulate -L sh; fi
    _portunix_prefixes
@SETTINGS@
    case $- in
    *i*)
        _portunix_prompt=${PS1-}
        _portunix_name=${_portunix_root##*/}
        # In a prompt, dollars, percent signs and backslashes are commands.
        case $_portunix_name in *[!A-Za-z0-9._-]*) _portunix_name=vdisk ;; esac
        PS1="($_portunix_name) ${PS1-}"
        ;;
    esac
    hash -r 2>/dev/null || :
}

_portunix_file=
if [ -n "${BASH_VERSION-}" ]; then
    eval '_portunix_file=${BASH_SOURCE[0]-}'
elif [ -n "${ZSH_VERSION-}" ]; then
    # %x shows a newline as an escape; $0 is the file only with this option.
    eval 'if [[ -o functionargzero ]]; then _portunix_file=$0; else _portunix_file=${(%):-%x}; fi'
fi
if _portunix_find; then
    _portunix_activate
    if [ -z "${VIRTUAL_ENV-}" ]; then
        _portunix_deactivate=yes
        deactivate() { portunix_deactivate; }
    fi
else
    unset -f portunix_deactivate
fi
unset _portunix_file _portunix_shell _portunix_open _portunix_python _portunix_bins _portunix_modules _portunix_each
unset _portunix_name _portunix_is _portunix_rest
unset -f _portunix_set _portunix_front _portunix_find _portunix_prefixes _portunix_activate
if [ -z "${_portunix_root-}" ] || [ -z "${_portunix_names-}" ]; then
    unset _portunix_root
    return 1
fi
unset _portunix_root
