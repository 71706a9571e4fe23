#!/bin/sh
# Prints one JSON document on one line: what cron and the timers of systemd run, or on macOS cron and launchd.
# It only reads, and downloads nothing. Part of tap-defender-lr; licence: that of the project (MIT).
LC_ALL=C
export LC_ALL

# Each function writes lines of fields between tabs: R, task ID, name, source, enabled, run as, schedule, command,
# last run, next run, last result. A line that begins with E holds a sentence about what could not be read.
problem() { printf 'E\t%s\n' "$1"; }

# The lines of a crontab; the user is in its sixth column unless there is a second argument.
from_crontab() {
    user=$2 awk -v OFS='\t' '
        BEGIN { user = ENVIRON["user"]; for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i }
        /^[ \t]*(#|$)/ || /^[ \t]*[^ \t=*@0-9~][^ \t=]*[ \t]*=/ { next }
        /^[ \t]*("[^"]*"|\047[^\047]*\047)[ \t]*=/ { next }
        {
            gsub(/[ \t\r]+/, " ")
            sub(/^ /, "")
            # The ID of a line is made from its text, so that it stays when other lines come and go.
            hash = 0
            for (i = 1; i <= length($0); i++) hash = (hash * 31 + code[substr($0, i, 1)]) % 2147483647
            line = $0
            schedule = ""
            run_as = user
            fields = line ~ /^@/ ? 1 : 5
            for (i = 1; i <= fields + (user == ""); i++) {
                match(line " ", / /)
                field = substr(line, 1, RSTART - 1)
                line = substr(line, RSTART + 1)
                if (i <= fields) schedule = schedule (i > 1 ? " " : "") field
                else run_as = field
            }
            name = FILENAME
            sub(/^.*\//, "", name)
            print "R", FILENAME "#" sprintf("%08x", hash), name, "cron", "true", run_as, schedule, line, "", "", ""
        }' "$1" || problem "$1 could not be read."
}

# Whether a file there counts, by its name: that of Debian skips all with other characters, such as x.dpkg-old.
counts() {
    case ${1##*/} in *[!A-Za-z0-9_-]*) [ ! -e /etc/debian_version ] || return 1 ;; esac
    printable "$1"
}

# A name with a line feed could look like another task.
printable() {
    case $1 in
        *[[:cntrl:]]*) problem 'A file of cron or launchd has control characters in its name: it is left out.' ;;
        *) return 0 ;;
    esac
    return 1
}

from_cron() {
    if [ -f /etc/crontab ]; then from_crontab /etc/crontab ''; fi
    for file in /etc/cron.d/*; do
        if [ -f "$file" ] && counts "$file"; then from_crontab "$file" ''; fi
    done
    for folder in /var/spool/cron /var/spool/cron/crontabs /var/spool/cron/tabs /var/at/tabs; do
        if [ -d "$folder" ] && [ ! -r "$folder" ]; then problem "$folder could not be read: run as root."; fi
        for file in "$folder"/*; do
            if [ -f "$file" ] && printable "$file"; then from_crontab "$file" "${file##*/}"; fi
        done
    done
    for period in hourly daily weekly monthly; do
        for file in "/etc/cron.$period"/*; do
            if [ ! -f "$file" ] || ! counts "$file"; then continue; fi
            if [ -x "$file" ]; then enabled=true; else enabled=false; fi
            printf 'R\t%s\t%s\tcron\t%s\troot\t@%s\t%s\t\t\t\n' "$file" "${file##*/}" "$enabled" "$period" "$file"
        done
    done
}

from_systemd() {
    TZ=UTC
    export TZ
    timers=$(systemctl list-units --type=timer --all --plain --no-legend 2>/dev/null | awk '{ print $1 }')
    if [ -z "$timers" ]; then
        [ ! -d /run/systemd/system ] || problem 'The timers of systemd could not be listed.'
        return
    fi
    # Names of units hold no blanks, so they are left unquoted to be several words.
    shown=$(systemctl show -p Id -p Unit -p LoadState -p ActiveState -p TimersCalendar -p TimersMonotonic \
        -p LastTriggerUSec -p NextElapseUSecRealtime -- $timers 2>/dev/null) ||
        problem 'The timers of systemd could not be read.'
    {
        systemctl show -p Id -p LoadState -p User -p ExecStart -p ExecMainStatus -- \
            $(printf '%s\n' "$shown" | sed -n 's/^Unit=//p')
        printf '\n%s\n' "$shown"
    } 2>/dev/null | awk -v OFS='\t' '
        # Mon 2024-09-30 06:12:11 UTC
        function moment(s,    part) {
            return split(s, part, " ") >= 3 && part[2] ~ /^[0-9]+-/ ? part[2] "T" substr(part[3], 1, 8) "Z" : ""
        }
        function flush(    id, unit) {
            id = value["Id"]
            unit = value["Unit"]
            if (id !~ /\.timer$/) {
                user[id] = value["User"] == "" ? "root" : value["User"]
                if (value["LoadState"] == "not-found") user[id] = ""
                command[id] = value["ExecStart"]
                status[id] = value["ExecMainStatus"]
            } else {
                if (value["LoadState"] == "not-found") unit = ""
                print "R", id, id, "systemd", (value["ActiveState"] == "active" ? "true" : "false"), \
                    user[unit], value["Timers"], command[unit], \
                    moment(value["LastTriggerUSec"]), moment(value["NextElapseUSecRealtime"]), \
                    (moment(value["LastTriggerUSec"]) == "" ? "" : status[unit])
            }
            split("", value)
        }
        {
            gsub(/\t/, " ")
            name = substr($0, 1, index($0, "=") - 1)
            text = substr($0, index($0, "=") + 1)
            if (name == "ExecStart") {
                # From the first argv to the last ignore_errors, since an argument may look like either.
                if ((at = index(text, " argv[]="))) text = substr(text, at + 8)
                if (match(text, /^.* ; ignore_errors=/)) text = substr(text, 1, RLENGTH - 17)
            }
            separator = " ; "
            if (name ~ /^Timers/) {
                name = "Timers"
                separator = ", "
                sub(/ ; next_elapse=.*$/, "", text)
                sub(/^\{ /, "", text)
            }
            if (name != "") value[name] = value[name] (value[name] == "" ? "" : separator) text
        }
        $0 == "" && value["Id"] != "" { flush() }
        END { if (value["Id"] != "") flush() }'
}

from_launchd() {
    for file in /Library/LaunchDaemons/*.plist /Library/LaunchAgents/*.plist; do
        if [ ! -f "$file" ] || ! printable "$file"; then continue; fi
        command=$(defaults read "${file%.plist}" ProgramArguments 2>/dev/null ||
            defaults read "${file%.plist}" Program 2>/dev/null)
        command=$(printf '%s' "$command" | tr -d '"(),' | tr -s ' \t\n' ' ' | sed 's/^ //; s/ $//')
        user=$(defaults read "${file%.plist}" UserName 2>/dev/null)
        name=${file##*/}
        printf 'R\t%s\t%s\tlaunchd\t\t%s\t\t%s\t\t\t\n' "$file" "${name%.plist}" "$user" "$command"
    done
}

{ from_cron; from_systemd; from_launchd; } | sort -u | awk -F '\t' '
    # A text as JSON, null if it is empty, cut after 4,000 bytes. Bytes that are no UTF-8 become U+FFFD.
    function text(s,    out, i, c, b, d, n, k) {
        if (s == "") return "null"
        if (length(s) > 4000) s = substr(s, 1, 4000) "..."
        if (s !~ /[^] !#-[^-~]/) return "\"" s "\""
        for (i = 1; i <= length(s); i++) {
            b = code[c = substr(s, i, 1)]
            if (c == "\"" || c == "\\") out = out "\\" c
            else if (b < 32 || b == 127) out = out sprintf("\\u%04x", b)
            else if (b < 128) out = out c
            else {
                n = b < 194 || b > 244 ? 0 : b < 224 ? 1 : b < 240 ? 2 : 3
                d = code[substr(s, i + 1, 1)]
                if (b == 224 && d < 160 || b == 237 && d > 159 || b == 240 && d < 144 || b == 244 && d > 143) n = 0
                for (k = 1; k <= n; k++) if ((d = code[substr(s, i + k, 1)]) < 128 || d > 191) n = 0
                out = out (n ? substr(s, i, n + 1) : "\\ufffd")
                i += n
            }
        }
        return "\"" out "\""
    }
    # A text in which the value after each place of a pattern (in small letters) is ***.
    function hidden(s, pattern, value, after,    out) {
        while (match(tolower(s), pattern)) {
            out = out substr(s, 1, RSTART + RLENGTH - 1)
            s = substr(s, RSTART + RLENGTH)
            if (match(s, "^(" value ")")) {
                out = out "***" after
                s = substr(s, RLENGTH + 1)
            }
        }
        return out s
    }
    # Command lines may hold secrets: what follows the usual names of one becomes ***.
    function masked(s,    names, value) {
        names = "(password|passwd|passphrase|pwd|token|secret)"
        value = "\"[^\"]*\"?|\047[^\047]*\047?|[^ \"\047&;]+"
        if (length(s) > 4000) s = substr(s, 1, 4000) "..."
        # https://user:x@host
        s = hidden(s, "://[^ /:@]*:", "[^ /]+@", "@")
        # password=x, API_TOKEN=x, ?sig=x
        s = hidden(s, "(" names "|sig) *= *", value)
        # --password x, -Password:x, /password:x, and /rp x of schtasks
        s = hidden(s, "(^|[ \"\047])[-/][a-z0-9_-]*" names ":", value)
        s = hidden(s, "(^|[ \"\047])-[a-z0-9_-]*" names " +", value)
        return hidden(s, "(^|[ \"\047])/rp([:=]| +)", value)
    }
    function number(s) { return s ~ /^[0-9]+$/ ? sprintf("%.0f", s) : "null" }
    function known(s) { return text(s == "" ? "unknown" : s) }
    function truth(s) { return s == "true" || s == "false" ? s : "null" }
    BEGIN { for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i }
    $1 == "E" { errors = errors (errors == "" ? "" : ",") text($2) }
    $1 == "R" && !($2 in seen) {
        seen[$2] = 1
        rows[++count] = "\"task_id\":" known($2) ",\"name\":" text($3) ",\"source\":" text($4) \
            ",\"enabled\":" truth($5) ",\"run_as\":" text($6) ",\"schedule\":" text($7) \
            ",\"command\":" text(masked($8)) ",\"last_run_time\":" text($9) ",\"next_run_time\":" text($10) \
            ",\"last_result\":" number($11)
    }
    END {
        printf "{\"succeeded\":%s,\"errors\":[%s],\"tasks\":[", (errors == "" ? "true" : "false"), errors
        for (i = 1; i <= count; i++) printf "%s{%s}", (i > 1 ? "," : ""), rows[i]
        print "]}"
    }'
