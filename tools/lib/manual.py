#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""manual.py PROGRAM VERSION FOLDER: man pages and shell completion, made of what the program's own --help says, so that
they know every option it has. Writes FOLDER/man1/*.1.gz, FOLDER/bash/inox and FOLDER/zsh/_inox."""
import gzip
import os
import re
import subprocess
import sys

OPTION = re.compile(r"^  (?:(-\w),? ?)?(--[a-z0-9-]+)(?: ([^ ].*?))?(?:  +(.*))?$")
WORD = re.compile(r"^  ([a-z][a-z-]*)(?: ([^ ].*?))?  +(.*)$")
SYNOPSES = {"": "COMMAND [OPTIONS]", "ctl": "ID COMMAND [ARGUMENTS]", "check": "FILE",
            "jail": "[OPTIONS] \\-\\- run [OPTIONS]", "exec": "ID [\\-\\- COMMAND]", "test": "[OPTIONS] \\-\\- COMMAND",
            "snapshot": "info|verify DIR", "template": "DIR \\-\\-api\\-sock SOCKET [OPTIONS]"}
PATHS = ("FILE", "PATH", "DIR", "SOCKET")


def help_of(program, *command):
    """Lines of a help text."""
    run = subprocess.run([program, *command, "--help"], check=True, capture_output=True, text=True)
    return run.stdout.splitlines()


class Page:
    """One command: its options as (letter, name, value, text), and words that come in their place."""

    def __init__(self, program, name, text):
        self.name, self.text = name, text
        self.options, self.words, self.about, self.examples, self.rest = [], [], [], [], []
        part = self.about
        for line in help_of(program, *([name] if name else [])):
            option, word = OPTION.match(line), WORD.match(line)
            if line.startswith("Examples:"):
                part = self.examples
            elif part is self.examples and line.startswith("  "):
                part.append(line.strip())
            elif part is self.examples and line:
                part = self.rest
                part.append(line)
            elif option:
                self.options.append([option[1] or "", option[2], (option[3] or "").removesuffix(" ..."),
                                     option[4] or ""])
            elif self.options and line.startswith("        ") and part is not self.rest:
                self.options[-1][3] = (self.options[-1][3] + " " + line.strip()).strip()
            elif word and name in ("", "ctl") and word[1] != "inox":
                self.words.append((word[1], word[2] or "", word[3]))
            elif line and not line.startswith(("Usage:", "Options:", "  ")):
                part.append(line)

    def takes_path(self, value):
        """Of an option."""
        return any(re.split(r"[^A-Z]", value)[0] == one for one in PATHS)


def escaped(text):
    """For troff, which takes a dot or a quote at the start of a line for a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def man(page, pages, version):
    """The page in man(7)'s language."""
    name = "inox" + (f"-{page.name}" if page.name else "")
    command = f"inox {page.name}".strip()
    out = [f'.TH {name.upper()} 1 "" "inox {version}" "User Commands"', ".SH NAME",
           f"{escaped(name)} \\- {escaped(page.text)}", ".SH SYNOPSIS", f".B {command}",
           SYNOPSES.get(page.name, "[OPTIONS]"),
           ".SH DESCRIPTION", *map(escaped, page.about)]
    if not page.name:
        for other in pages[1:]:
            out += [".TP", f".BR inox\\-{other.name} (1)", escaped(other.text)]
    if page.words and page.name:
        out += [".SH COMMANDS"]
        for word, value, text in page.words:
            out += [".TP", f".BI {escaped(word)} \" {escaped(value)}\"", escaped(text)]
    if page.options and page.name:
        out += [".SH OPTIONS"]
        for letter, option, value, text in page.options:
            names = ", ".join(filter(None, (letter, option)))
            out += [".TP", f'.BI "{escaped(names)}" " {escaped(value)}"', escaped(text)]
    if page.examples:
        out += [".SH EXAMPLES", ".nf", *map(escaped, page.examples), ".fi"]
    if page.rest:
        out += [".SH NOTES", *map(escaped, page.rest)]
    out += [".SH EXIT STATUS", "0, or a documented code: see exit\\-codes.md below.", ".SH FILES",
            ".TP", ".I /usr/share/doc/inox/docs", "all the documents: configuration, devices, API, exit codes",
            ".TP", ".I $XDG_RUNTIME_DIR/inox", "sockets of guests that have an id (inox run \\-\\-id)", ".SH SEE ALSO",
            ", ".join(f".BR inox{'-' + one.name if one.name else ''} (1)".replace("-", "\\-").removeprefix(".BR ")
                      for one in pages if one is not page)]
    return "\n".join(out) + "\n"


def bash(pages):
    """Completion that needs no library."""
    commands = " ".join(one.name for one in pages[1:])
    out = ["# Completion of inox for bash; made from inox --help", "_inox() {",
           "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} options='' paths='' words=''",
           "    COMPREPLY=()", "    if [ \"$COMP_CWORD\" = 1 ]; then",
           f"        mapfile -t COMPREPLY < <(compgen -W '{commands} --help --version' -- \"$word\")",
           "        return", "    fi", "    case ${COMP_WORDS[1]} in"]
    for page in pages[1:]:
        names = [one for option in page.options for one in option[:2] if one]
        paths = [one for option in page.options if page.takes_path(option[2]) for one in option[:2] if one]
        plain = [one for option in page.options if option[2] and not page.takes_path(option[2])
                 for one in option[:2] if one]
        out += [f"        {page.name})", f"            options='{' '.join(names)}'",
                f"            paths=' {' '.join(paths)} ' plain=' {' '.join(plain)} '"]
        if page.name == "ctl":
            words = " ".join(word for word, _, _ in page.words)
            out += [f"            words='{words}'",
                    "            [ \"$COMP_CWORD\" != 2 ] || "
                    "words=$(inox ps 2>/dev/null | awk 'NR > 1 { print $1 }')"]
        out += ["            ;;"]
    out += ["    esac", "    if [[ $paths == *\" $before \"* ]]; then",
            "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")", "        compopt -o filenames 2>/dev/null",
            "    elif [[ $plain == *\" $before \"* ]]; then", "        return",
            "    elif [[ $word == -* ]]; then",
            "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$word\")",
            "    elif [ -n \"$words\" ]; then", "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")",
            "    elif [ \"${COMP_WORDS[1]}\" = check ]; then",
            "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")", "        compopt -o filenames 2>/dev/null",
            "    else", "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$word\")", "    fi", "}",
            "complete -F _inox inox"]
    return "\n".join(out).replace("options='' paths='' words=''", "options='' paths='' plain='' words=''") + "\n"


def zsh(pages):
    """The same for zsh."""
    def quoted(text):
        return text.replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")

    out = ["#compdef inox", "# Made from inox --help", "_inox() {", "    local -a commands", "    commands=("]
    out += [f"        '{one.name}:{quoted(one.text)}'" for one in pages[1:]]
    out += ["    )", "    if (( CURRENT == 2 )); then _describe command commands; return; fi",
            "    local command=$words[2]", "    shift words; (( CURRENT-- ))", "    case $command in"]
    for page in pages[1:]:
        out += [f"        {page.name})", "            _arguments -s \\"]
        for letter, name, value, text in page.options:
            kind = f":{quoted(value)}:{'_files' if page.takes_path(value) else ' '}" if value else ""
            spec = f"[{quoted(text)}]{kind}'"
            out += [f"                '({letter} {name})'{{{letter},{name}}}'{spec} \\" if letter
                    else f"                '{name}{spec} \\"]
        out += ["                '*:argument:_files'", "            ;;"]
    out += ["    esac", "}", '_inox "$@"']
    return "\n".join(out) + "\n"


def write(path, data):
    """Makes its folder, too."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def main():
    program, version, folder = sys.argv[1:]
    commands, last = {}, None
    for line in help_of(program):
        found = re.match(r"^  inox ([a-z]+)(?: .*?)?(?:  +(.*))?$", line)
        if found:
            commands.setdefault(found[1], found[2])
        elif last and line.startswith("        "):
            commands[last] = commands[last] or line.strip()
        last = found[1] if found else None
    pages = [Page(program, "", "a small virtual machine monitor"),
             *(Page(program, name, text) for name, text in commands.items())]
    for page in pages:
        name = "inox" + (f"-{page.name}" if page.name else "")
        write(f"{folder}/man1/{name}.1.gz", gzip.compress(man(page, pages, version).encode(), 9, mtime=0))
    write(f"{folder}/bash/inox", bash(pages).encode())
    write(f"{folder}/zsh/_inox", zsh(pages).encode())


if __name__ == "__main__":
    main()
