#!/bin/sh
# Prints one JSON document on one line: the installed software that dpkg, rpm and apk know, or on macOS the apps.
# It only reads, and downloads nothing. Part of tap-defender-lr; licence: that of the project (MIT).
LC_ALL=C
export LC_ALL

have() { command -v "$1" >/dev/null 2>&1; }

# Each function writes lines of fields between tabs: R, name, version, source, publisher, day of installation, KiB.
# A line that begins with E holds a sentence about what could not be read.
problem() { printf 'E\t%s\n' "$1"; }

from_dpkg() {
    rows=$(dpkg-query -W -f '${Status}\t${Package}\t${Version}\t${Maintainer}\t${Installed-Size}\n' 2>/dev/null) ||
        problem 'dpkg-query failed: its packages may be missing.'
    printf '%s\n' "$rows" |
        awk -F '\t' -v OFS='\t' '$1 ~ / installed$/ { print "R", $2, $3, "dpkg", $4, "", $5 }'
}

from_rpm() {
    format='%{NAME}\t%{VERSION}-%{RELEASE}\t%{VENDOR}\t%{INSTALLTIME}\t%{LONGSIZE}\n'
    rows=$(rpm -qa --queryformat "$format" 2>/dev/null) || problem 'rpm failed: its packages may be missing.'
    printf '%s\n' "$rows" | awk -F '\t' -v OFS='\t' '
        # Seconds since 1970 as a day: not every awk has strftime.
        function day(seconds,    z, era, doe, yoe, doy, mp, month) {
            z = int(seconds / 86400) + 719468
            era = int(z / 146097)
            doe = z - era * 146097
            yoe = int((doe - int(doe / 1460) + int(doe / 36524) - int(doe / 146096)) / 365)
            doy = doe - (365 * yoe + int(yoe / 4) - int(yoe / 100))
            mp = int((5 * doy + 2) / 153)
            month = mp < 10 ? mp + 3 : mp - 9
            return sprintf("%04d-%02d-%02d", yoe + era * 400 + (month <= 2), month, doy - int((153 * mp + 2) / 5) + 1)
        }
        NF >= 5 {
            print "R", $1, $2, "rpm", ($3 == "(none)" ? "" : $3), ($4 ~ /^[0-9]+$/ ? day($4) : ""), int($5 / 1024)
        }'
}

from_apk() {
    awk -v OFS='\t' '
        function flush() {
            if (name != "") print "R", name, version, "apk", publisher, "", (size == "" ? "" : int(size / 1024))
            name = version = publisher = size = ""
        }
        /^P:/ { name = substr($0, 3) }
        /^V:/ { version = substr($0, 3) }
        /^m:/ { publisher = substr($0, 3) }
        /^I:/ { size = substr($0, 3) }
        /^$/ { flush() }
        END { flush() }' "$1" || problem 'The database of apk could not be read.'
}

from_applications() {
    for app in /Applications/*.app /Applications/*/*.app /System/Applications/*.app /System/Applications/*/*.app; do
        [ -f "$app/Contents/Info.plist" ] || continue
        version=$(defaults read "$app/Contents/Info" CFBundleShortVersionString 2>/dev/null)
        name=${app##*/}
        printf 'R\t%s\t%s\tapplications\t\t\t\n' "${name%.app}" "$version"
    done
}

collect() {
    found=no
    if have dpkg-query; then found=yes; from_dpkg; fi
    # Where rpm is only a tool, as on Debian, it has no database (and would fail, or list nothing).
    if have rpm && { [ -d /var/lib/rpm ] || [ -d /usr/lib/sysimage/rpm ]; }; then found=yes; from_rpm; fi
    for database in /lib/apk/db/installed /usr/lib/apk/db/installed; do
        # On newer systems /lib is /usr/lib: what is read twice is printed once.
        if [ -r "$database" ]; then found=yes; from_apk "$database"; fi
    done
    if [ "$(uname -s)" = Darwin ]; then found=yes; from_applications; fi
    [ "$found" = yes ] || problem 'Neither dpkg nor rpm nor apk was found.'
}

collect | sort -u | awk -F '\t' '
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
    function number(s) { return s ~ /^[0-9]+$/ ? sprintf("%.0f", s) : "null" }
    function known(s) { return text(s == "" ? "unknown" : s) }
    BEGIN { for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i }
    $1 == "E" { errors = errors (errors == "" ? "" : ",") text($2) }
    $1 == "R" {
        key = "\"name\":" known($2) ",\"version\":" known($3) ",\"source\":" known($4)
        if (key in seen) next
        seen[key] = 1
        rows[++count] = key ",\"publisher\":" text($5) ",\"install_date\":" text($6) ",\"size_kb\":" number($7)
    }
    END {
        printf "{\"succeeded\":%s,\"errors\":[%s],\"software\":[", (errors == "" ? "true" : "false"), errors
        for (i = 1; i <= count; i++) printf "%s{%s}", (i > 1 ? "," : ""), rows[i]
        print "]}"
    }'
