"""Variables of the environment that a disk must not set: those by which other programs are led elsewhere.

Whoever activates a disk runs its programs, by their names, on purpose. That must not change what *other* programs do:
which libraries they load, what a shell runs before its prompt, whom TLS trusts, where secrets are asked for. A record
comes with a disk that anybody may have made, so its variables are looked at as if an enemy had written them.
"""

from __future__ import annotations

import re
from typing import Final

_OF_THE_PERSON: Final = """
PATH HOME USER LOGNAME UID EUID SHELL TERM PWD OLDPWD TMPDIR TMP TEMP MAIL IFS ENV BASH_ENV CDPATH FPATH FIGNORE
GLOBIGNORE SHELLOPTS BASHOPTS BASH_XTRACEFD BASH_COMPAT POSIXLY_CORRECT ZDOTDIR PS0 PS1 PS2 PS3 PS4 PROMPT RPROMPT
PROMPT_COMMAND HISTFILE HISTCONTROL PSMODULEPATH COMSPEC PATHEXT SYSTEMROOT HOSTALIASES LOCALDOMAIN RES_OPTIONS
"""
"""Who the person is, and what shells do by themselves."""
_OF_INTERPRETERS: Final = """
PYTHONSTARTUP PYTHONHOME PYTHONPATH PYTHONUSERBASE PYTHONINSPECT PYTHONBREAKPOINT PYTHONPLATLIBDIR PYTHONEXECUTABLE
PYTHONWARNINGS PYTHONPYCACHEPREFIX NODE_PATH NODE_REPL_EXTERNAL_MODULE NODE_EXTRA_CA_CERTS
NODE_TLS_REJECT_UNAUTHORIZED PERL5OPT PERL5LIB PERL5DB PERLLIB RUBYOPT RUBYLIB GEM_PATH LUA_INIT LUA_PATH LUA_CPATH
JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS CLASSPATH GOFLAGS GOENV GOPROXY GOSUMDB GONOSUMDB GONOPROXY
GOPRIVATE GOINSECURE GOAUTH RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER RUSTFLAGS RUSTDOCFLAGS MAKEFLAGS GCONV_PATH
GETCONF_DIR LOCPATH NLSPATH MALLOC_TRACE GTK_MODULES GIO_EXTRA_MODULES QT_PLUGIN_PATH OPENSSL_CONF OPENSSL_ENGINES
OPENSSL_MODULES
"""
"""What interpreters load or run before the program."""
_PROGRAMS: Final = """
EDITOR VISUAL PAGER MANPAGER BROWSER LESSOPEN LESSCLOSE LESS SSH_ASKPASS SSH_AUTH_SOCK GPG_AGENT_INFO GIT_SSH
GIT_SSH_COMMAND GIT_ASKPASS GIT_PAGER GIT_EDITOR GIT_SEQUENCE_EDITOR GIT_EXTERNAL_DIFF GIT_PROXY_COMMAND GIT_DIR
GIT_WORK_TREE
"""
"""Programs that other programs start."""
_OF_THE_NETWORK: Final = """
SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE CURL_HOME GIT_SSL_NO_VERIFY
GIT_SSL_CAINFO GIT_SSL_CAPATH HTTP_PROXY HTTPS_PROXY ALL_PROXY FTP_PROXY NO_PROXY DOCKER_HOST DOCKER_CONFIG
KUBECONFIG
"""
"""Whom the network trusts, and where it leads."""
_NAMES: Final = frozenset(f"{_OF_THE_PERSON} {_OF_INTERPRETERS} {_PROGRAMS} {_OF_THE_NETWORK}".split())
_PREFIXES: Final = (
    "LD_",
    "DYLD_",
    "BASH_FUNC_",
    "NPM_CONFIG_",
    "YARN_",
    "PIP_",
    "UV_",
    "CARGO_",
    "GIT_CONFIG",
    "SUDO_",
    "XDG_",
    "DBUS_",
    "PORTUNIX_",
    "_PORTUNIX_",
)
_NODE_OPTION: Final = re.compile(
    r"--(max-old-space-size=\d+|enable-source-maps|no-warnings|no-deprecation|openssl-legacy-provider)"
)
"""Options of Node that load nothing."""


def is_refused(name: str, value: str) -> bool:
    """Whether a disk must not set that variable, or not to that value."""
    upper = name.upper()
    if upper == "NODE_OPTIONS":
        return not all(_NODE_OPTION.fullmatch(word) for word in value.split())
    return upper in _NAMES or upper.startswith(_PREFIXES)
