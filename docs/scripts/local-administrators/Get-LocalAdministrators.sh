#!/bin/sh
# Prints one JSON document on one line: the accounts with the user ID 0 and the members of sudo, wheel and admin.
# It only reads, and downloads nothing. Part of tap-defender-lr; licence: that of the project (MIT).
LC_ALL=C
export LC_ALL

# Each function writes lines of fields between tabs: user, name, user ID, ID of the first group, login shell, origin;
# or group, name, ID; or member, name of the group, name of the user.
# A line that begins with E holds a sentence about what could not be read.
problem() { printf 'E\t%s\n' "$1"; }

# The C library also takes lines whose last fields are missing, and 00 for 0.
users() {
    awk -F : -v OFS='\t' -v origin="$1" '
        function id(s) { return s ~ /^[ \t]*[+-]?0+$/ ? "0" : s ~ /^[0-9]+$/ ? sprintf("%.0f", s) : s }
        NF >= 4 && $1 !~ /^(#|$)/ { gsub(/\t/, " "); print "user", $1, id($3), id($4), $7, origin }'
}

groups() {
    awk -F : -v OFS='\t' '
        $1 == "sudo" || $1 == "wheel" || $1 == "admin" {
            print "group", $1, ($3 ~ /^[0-9]+$/ ? sprintf("%.0f", $3) : $3)
            n = split($4, names, ",")
            for (i = 1; i <= n; i++) if (names[i] != "") print "member", $1, names[i]
        }'
}

from_files() {
    users local </etc/passwd || problem '/etc/passwd could not be read.'
    # getent also asks a directory service, but fails if it lacks one of the groups, or is not there.
    members=$({ getent group sudo wheel admin || cat /etc/group; } 2>/dev/null | groups)
    [ -r /etc/group ] || problem '/etc/group could not be read.'
    printf '%s\n' "$members"
    printf '%s\n' "$members" | awk -F '\t' '$1 == "member" { print $3 }' | sort -u |
        while IFS= read -r name; do getent passwd "$name" 2>/dev/null | users domain; done
}

# macOS keeps its accounts in a directory of its own.
from_directory() {
    for property in UniqueID PrimaryGroupID UserShell; do
        dscl . -list /Users "$property" | awk -v OFS='\t' -v property="$property" '{ print property, $1, $2 }'
    done | awk -F '\t' -v OFS='\t' '
        $1 == "UniqueID" { uid[$2] = $3 }
        $1 == "PrimaryGroupID" { gid[$2] = $3 }
        $1 == "UserShell" { shell[$2] = $3 }
        END { for (name in uid) print "user", name, uid[name], gid[name], shell[name], "local" }' | sort
    for group in wheel admin; do
        dscl . -read "/Groups/$group" PrimaryGroupID GroupMembership | awk -v OFS='\t' -v group="$group" '
            $1 == "PrimaryGroupID:" { print "group", group, $2 }
            $1 == "GroupMembership:" { for (i = 2; i <= NF; i++) print "member", group, $i }'
    done
}

# Who is in which group, as lines: R, account ID, name, type, origin, enabled, granted by.
joined() {
    awk -F '\t' -v OFS='\t' '
        $1 == "E" { print }
        $1 == "user" && !($2 in uid) {
            order[++count] = $2
            uid[$2] = $3
            gid[$2] = $4
            enabled[$2] = $5 ~ /(nologin|false)$/ ? "false" : "true"
            origin[$2] = $6
        }
        $1 == "group" { id[$2] = $3 }
        $1 == "member" { in_group[$2, $3] = 1; member[++members] = $3 }
        END {
            if (!count) print "E", "No accounts could be read."
            for (i = 1; i <= members; i++) if (!(member[i] in uid)) {
                order[++count] = member[i]
                uid[member[i]] = "unknown"
                origin[member[i]] = "unknown"
            }
            n = split("sudo wheel admin", names, " ")
            for (i = 1; i <= count; i++) {
                name = order[i]
                by = uid[name] == "0" ? "uid 0" : ""
                for (k = 1; k <= n; k++)
                    if ((names[k], name) in in_group || names[k] in id && id[names[k]] == gid[name])
                        by = by (by == "" ? "" : ", ") names[k]
                if (by == "") continue
                # Two names may share a user ID: the second one is told apart by its name.
                account = uid[name]
                if (account == "unknown" || account in taken) account = account "/" name
                taken[account] = 1
                print "R", account, name, "User", origin[name], enabled[name], by
            }
        }'
}

if [ "$(uname -s)" = Darwin ]; then from_directory; else from_files; fi | joined | sort -u | awk -F '\t' '
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
    function truth(s) { return s == "true" || s == "false" ? s : "null" }
    function known(s) { return text(s == "" ? "unknown" : s) }
    BEGIN { for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i }
    $1 == "E" { errors = errors (errors == "" ? "" : ",") text($2) }
    $1 == "R" {
        rows[++count] = "\"account_id\":" known($2) ",\"name\":" text($3) ",\"account_type\":" text($4) \
            ",\"origin\":" text($5) ",\"enabled\":" truth($6) ",\"granted_by\":" text($7)
    }
    END {
        printf "{\"succeeded\":%s,\"errors\":[%s],\"administrators\":[", (errors == "" ? "true" : "false"), errors
        for (i = 1; i <= count; i++) printf "%s{%s}", (i > 1 ? "," : ""), rows[i]
        print "]}"
    }'
