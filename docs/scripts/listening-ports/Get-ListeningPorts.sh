#!/bin/sh
# Prints one JSON document on one line: the TCP and UDP ports on which processes of this device listen.
# It only reads, and downloads nothing. Part of tap-defender-lr; licence: that of the project (MIT).
LC_ALL=C
export LC_ALL

# Each function writes lines of fields between tabs: R, protocol, address, port, process ID, its name, path, service.
# A line that begins with E holds a sentence about what could not be read.
problem() { printf 'E\t%s\n' "$1"; }

from_proc() {
    [ "$(id -u)" = 0 ] || problem 'Processes of other users could not be seen: run as root.'
    {
        for protocol in tcp tcp6 udp udp6; do
            [ ! -r "/proc/net/$protocol" ] || sed "s/^/socket $protocol /" "/proc/net/$protocol"
        done
        # Which process has which socket open, and which program it is.
        ls -ln /proc/[0-9]*/exe /proc/[0-9]*/fd 2>/dev/null
    } | awk -v OFS='\t' '
        function nibble(s, at) { return index("123456789ABCDEF", substr(s, at, 1)) }
        function byte(s, at) { return 16 * nibble(s, at) + nibble(s, at + 1) }
        # The kernel writes words of four bytes, the last byte first.
        function ipv4(s) { return byte(s, 7) "." byte(s, 5) "." byte(s, 3) "." byte(s, 1) }
        function ipv6(s,    i, word, out, zeros, at) {
            if (s ~ /^0000000000000000FFFF0000/) return "::ffff:" ipv4(substr(s, 25))
            for (i = 0; i < 4; i++) {
                word = substr(s, 8 * i + 1, 8)
                out = out sprintf(":%x", 256 * byte(word, 7) + byte(word, 5))
                out = out sprintf(":%x", 256 * byte(word, 3) + byte(word, 1))
            }
            out = out ":"
            # The longest row of zeros is left out.
            for (zeros = ":0:0:0:0:0:0:0:0:"; length(zeros) > 3; zeros = substr(zeros, 3))
                if ((at = index(out, zeros))) {
                    out = substr(out, 1, at) ":" substr(out, at + length(zeros))
                    break
                }
            if (out !~ /^::/) out = substr(out, 2)
            return out ~ /::$/ ? out : substr(out, 1, length(out) - 1)
        }
        function first_line(file,    line) { getline line < file; close(file); gsub(/\t/, " ", line); return line }
        function service(pid,    file, line, part, n, found) {
            file = "/proc/" pid "/cgroup"
            while ((getline line < file) > 0)
                for (n = split(line, part, "/"); n > 0 && found == ""; n--)
                    if (part[n] ~ /\.service$/) found = part[n]
            close(file)
            return found
        }
        $1 == "socket" && ($2 ~ /^tcp/ && $6 == "0A" || $2 ~ /^udp/ && $6 == "07") {
            address[++sockets] = $4
            protocol[sockets] = $2
            inode[sockets] = $12
        }
        /^\/proc\/[0-9]+\/fd:$/ { split($0, part, "/"); pid = part[3] }
        / -> socket:\[[0-9]+\]$/ {
            number = $NF
            gsub(/[^0-9]/, "", number)
            pids[number] = pids[number] " " pid
        }
        / \/proc\/[0-9]+\/exe -> / {
            path = $0
            sub(/^.* \/proc\//, "", path)
            id = path
            sub(/\/.*$/, "", id)
            sub(/^[^>]* -> /, "", path)
            gsub(/\t/, " ", path)
            exe[id] = path
        }
        END {
            for (i = 1; i <= sockets; i++) {
                split(address[i], part, ":")
                host = protocol[i] ~ /6$/ ? ipv6(part[1]) : ipv4(part[1])
                port = byte(part[2], 1) * 256 + byte(part[2], 3)
                n = split(inode[i] in pids ? pids[inode[i]] : "0", owner, " ")
                for (k = 1; k <= n; k++)
                    print "R", substr(protocol[i], 1, 3), host, port, owner[k], \
                        (owner[k] ? first_line("/proc/" owner[k] "/comm") : ""), exe[owner[k]], \
                        (owner[k] ? service(owner[k]) : "")
            }
        }'
}

from_lsof() {
    command -v lsof >/dev/null 2>&1 || problem 'lsof was not found.'
    { ps -axo pid=,comm=; lsof -nP -iTCP -iUDP -sTCP:LISTEN -F ptPn 2>/dev/null; } | awk -v OFS='\t' '
        /^ *[0-9]+ / { id = $1; sub(/^ *[0-9]+ +/, ""); path[id] = $0; next }
        /^p/ { pid = substr($0, 2) }
        /^t/ { type = substr($0, 2) }
        /^P/ { protocol = tolower(substr($0, 2)) }
        /^n/ && !/->/ && !/:\*$/ {
            host = port = substr($0, 2)
            sub(/:[0-9]+$/, "", host)
            sub(/^.*:/, "", port)
            gsub(/[][]/, "", host)
            if (host == "*") host = type == "IPv6" ? "::" : "0.0.0.0"
            name = path[pid]
            sub(/^.*\//, "", name)
            print "R", protocol, host, port, pid, name, path[pid], ""
        }'
}

tab=$(printf '\t')
if [ "$(uname -s)" = Darwin ]; then from_lsof
elif [ -r /proc/net/tcp ]; then from_proc
else problem '/proc/net/tcp could not be read.'; fi | sort -t "$tab" -k 1,3 -k 4,4n -k 5,5n | awk -F '\t' '
    # A text as JSON, null if it is empty. Bytes that are no UTF-8 become U+FFFD.
    function text(s,    out, i, c, b, d, n, k) {
        if (s == "") return "null"
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
        key = "\"protocol\":" known($2) ",\"local_address\":" known($3) ",\"local_port\":" number($4 + 0) \
            ",\"process_id\":" number($5 + 0)
        if (key in seen) next
        seen[key] = 1
        rows[++count] = key ",\"process_name\":" text($6) ",\"process_path\":" text($7) ",\"service\":" text($8)
    }
    END {
        printf "{\"succeeded\":%s,\"errors\":[%s],\"ports\":[", (errors == "" ? "true" : "false"), errors
        for (i = 1; i <= count; i++) printf "%s{%s}", (i > 1 ? "," : ""), rows[i]
        print "]}"
    }'
